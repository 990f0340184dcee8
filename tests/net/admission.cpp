#include "guard/admission.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <deque>

namespace curvegate::guard {
namespace {

using namespace std::chrono_literals;

const Instant kStart = Instant{} + 1'000h;
constexpr bool kIdleVault = false;
constexpr bool kBusyVault = true;

IpAddress ip(const std::string& text) {
    return *IpAddress::parse(text);
}
IpAddress numbered(const std::string& prefix, int number) {
    return ip(prefix + std::to_string(number));
}

/// With small limits, and guests that stay until they are let go.
struct Door {
    explicit Door(const AdmissionLimits& limits) : admission(std::make_shared<Admission>(limits, random)) {}

    test::SeededRandom random{1};
    std::shared_ptr<Admission> admission;
    std::deque<Admission::Ticket> inside;
    std::vector<std::size_t> evicted;
    std::size_t knocks = 0;
    Instant now = kStart;

    /// The reason for a refusal, or nothing.
    std::optional<Error> knock(const IpAddress& source, bool vault_busy = kIdleVault) {
        auto ticket = admission->admit({source, now, vault_busy},
                                       [this, number = knocks] { evicted.push_back(number); });
        ++knocks;
        if (!ticket) return ticket.error();
        inside.push_back(std::move(*ticket));
        return std::nullopt;
    }
    [[nodiscard]] std::size_t admitted(const IpAddress& source, int tries, bool vault_busy = kIdleVault) {
        std::size_t count = 0;
        for (int i = 0; i < tries; ++i) {
            if (!knock(source, vault_busy)) ++count;
        }
        return count;
    }
    /// As admitted(), with each guest gone before the next comes: half-open caps play no part.
    [[nodiscard]] std::size_t passed(const IpAddress& source, int tries, bool vault_busy) {
        std::size_t count = 0;
        for (int i = 0; i < tries; ++i) {
            if (knock(source, vault_busy)) continue;
            ++count;
            inside.pop_back();
        }
        return count;
    }
};

AdmissionLimits limits(double rate, std::size_t burst, std::size_t per_source, std::size_t half_open) {
    return {rate, burst, per_source, half_open};
}

TEST_CASE("without load nobody is counted by rate", "[net][admission]") {
    Door door(limits(1, 2, 100'000, 100'000));
    CHECK(door.passed(ip("192.0.2.1"), 1'000, kIdleVault) == 1'000);
}

TEST_CASE("a source may hold so many places and no more, load or not", "[net][admission]") {
    Door door(limits(1'000, 1'000, 10, 1'000));
    CHECK(door.admitted(ip("192.0.2.1"), 15) == 10);
    CHECK(door.knock(ip("192.0.2.1"))->is(AdmissionErrc::source_full));
    CHECK_FALSE(door.knock(ip("192.0.2.2")).has_value());
    door.inside.pop_front();
    CHECK_FALSE(door.knock(ip("192.0.2.1")).has_value());
}

TEST_CASE("a whole /64 is one source", "[net][admission]") {
    Door door(limits(1'000, 1'000, 10, 1'000));
    for (int i = 1; i <= 10; ++i) CHECK_FALSE(door.knock(numbered("2001:db8:0:1::", i)).has_value());
    CHECK(door.knock(ip("2001:db8:0:1:ffff::1"))->is(AdmissionErrc::source_full));
    CHECK_FALSE(door.knock(ip("2001:db8:0:2::1")).has_value());
}

TEST_CASE("a ticket frees its place when it goes", "[net][admission]") {
    Door door(limits(1'000, 1'000, 10, 1'000));
    CHECK(door.admitted(ip("192.0.2.1"), 7) == 7);
    CHECK(door.admission->half_open() == 7);
    auto moved = std::move(door.inside.back());
    door.inside.pop_back();
    CHECK(door.admission->half_open() == 7);
    door.inside.clear();
    CHECK(door.admission->half_open() == 1);
    {
        const auto gone = std::move(moved);
    }
    CHECK(door.admission->half_open() == 0);
}

TEST_CASE("under load a source gets its burst and then its rate", "[net][admission]") {
    Door door(limits(4, 10, 1'000, 1'000));
    const auto source = ip("192.0.2.1");
    CHECK(door.passed(source, 50, kBusyVault) == 10);
    CHECK(door.knock(source, kBusyVault)->is(AdmissionErrc::over_rate));
    door.now += 1s;
    CHECK(door.passed(source, 50, kBusyVault) == 4);
    door.now += 500ms;
    CHECK(door.passed(source, 50, kBusyVault) == 2);
    door.now += 1h;  // fills up to the burst and no further
    CHECK(door.passed(source, 50, kBusyVault) == 10);
}

TEST_CASE("load is sticky for a second and then over", "[net][admission]") {
    Door door(limits(1, 2, 1'000, 1'000));
    const auto source = ip("192.0.2.1");
    CHECK(door.passed(source, 10, kBusyVault) == 2);
    door.now += 900ms;
    CHECK(door.passed(source, 10, kIdleVault) == 0);
    door.now += 200ms;
    CHECK(door.passed(source, 10, kIdleVault) == 10);
}

TEST_CASE("more than half of the places taken is load", "[net][admission]") {
    Door door(limits(1, 2, 1'000, 100));
    CHECK(door.admitted(ip("192.0.2.1"), 51) == 51);
    CHECK(door.passed(ip("198.51.100.1"), 10, kIdleVault) == 2);
}

TEST_CASE("under load a network has a budget of its own, a few times a source's", "[net][admission]") {
    Door door(limits(0.001, 10, 1'000, 1'000));
    std::size_t passed = 0;
    for (int host = 1; host <= 20; ++host) passed += door.passed(numbered("192.0.2.", host), 10, kBusyVault);
    CHECK(passed == 40);  // a /24
    CHECK(door.passed(ip("198.51.100.1"), 50, kBusyVault) == 10);

    Door v6(limits(0.001, 10, 1'000, 1'000));
    passed = 0;
    for (int net = 1; net <= 20; ++net)
        passed += v6.passed(ip("2001:db8:0:" + std::to_string(net) + "::1"), 10, kBusyVault);
    CHECK(passed == 20);  // a /56
    passed = 0;
    for (int net = 1; net <= 20; ++net)
        passed += v6.passed(ip("2001:db8:0:" + std::to_string(net) + "00::1"), 10, kBusyVault);
    CHECK(passed == 20);  // the rest of the /48's 40
}

TEST_CASE("a handshake that ends authorised gives its token back", "[net][admission]") {
    Door door(limits(0.001, 5, 1'000, 1'000));
    const auto source = ip("192.0.2.1");
    for (int i = 0; i < 50; ++i) {
        INFO(i);
        REQUIRE_FALSE(door.knock(source, kBusyVault).has_value());
        door.inside.back().succeed(door.now);
        door.inside.clear();
        door.now += 11min;  // so that the network is not known for it
    }
}

TEST_CASE("a network that authenticated lately needs no token", "[net][admission]") {
    Door door(limits(0.001, 5, 1'000, 1'000));
    REQUIRE_FALSE(door.knock(ip("192.0.2.1"), kBusyVault).has_value());
    door.inside.back().succeed(door.now);
    CHECK(door.passed(ip("192.0.2.77"), 100, kBusyVault) == 100);
    door.now += 11min;
    CHECK(door.passed(ip("192.0.2.77"), 100, kBusyVault) == 5);
}

TEST_CASE("an eighth of the places is kept for networks that authenticated lately", "[net][admission]") {
    Door door(limits(1'000, 1'000, 1'000, 80));
    REQUIRE_FALSE(door.knock(ip("203.0.113.1")).has_value());
    door.inside.back().succeed(door.now);
    door.inside.clear();
    CHECK(door.admitted(ip("192.0.2.1"), 100) == 70);
    CHECK(door.knock(ip("192.0.2.1"))->is(AdmissionErrc::total_full));
    CHECK(door.admitted(ip("203.0.113.9"), 10) == 10);
    CHECK(door.evicted.empty());
}

TEST_CASE("when all is full the oldest guest of the fullest network gives way", "[net][admission]") {
    Door door(limits(1'000, 1'000, 1'000, 80));
    CHECK(door.admitted(ip("198.51.100.1"), 10) == 10);  // knocks 0 to 9
    CHECK(door.admitted(ip("192.0.2.1"), 60) == 60);     // knocks 10 to 69: all 70 places for strangers
    CHECK_FALSE(door.knock(ip("203.0.113.1")).has_value());
    CHECK(door.evicted == std::vector<std::size_t>{10});
    CHECK_FALSE(door.knock(ip("203.0.113.2")).has_value());
    CHECK(door.evicted == std::vector<std::size_t>{10, 11});  // each guest is asked to go once
    // The fullest network itself gets nobody out.
    CHECK(door.knock(ip("192.0.2.200"))->is(AdmissionErrc::total_full));
    CHECK(door.evicted.size() == 2);
}

TEST_CASE("a flood from one network does not keep another out", "[net][admission]") {
    Door door(limits(64, 2'048, 2'048, 512));
    for (int i = 0; i < 5'000; ++i) (void)door.knock(numbered("192.0.2.", i % 250 + 1));
    for (int i = 1; i <= 50; ++i) CHECK_FALSE(door.knock(numbered("198.51.100.", i)).has_value());
    CHECK(door.evicted.size() == 50);
}

SessionLimits::Client client_of(Byte number, const std::string& source) {
    return {*public_key_of(test::secret_number<crypto::LongTermSecret>(number)), ip(source)};
}

constexpr ServiceId kWeb{1};
constexpr ServiceId kMail{2};
constexpr ServiceId kDns{3};

/// Slots that stay until they are let go.
struct Guests {
    std::shared_ptr<SessionLimits> sessions = std::make_shared<SessionLimits>();
    std::deque<SessionLimits::Slot> inside;

    std::optional<Error> come(const std::optional<SessionLimits::Client>& client, const SessionMost& most,
                              ServiceId service = kWeb) {
        auto slot = sessions->take(service, client, most);
        if (!slot) return slot.error();
        inside.push_back(std::move(*slot));
        return std::nullopt;
    }
};

TEST_CASE("a source may have so many sessions, whatever its keys and services", "[net][admission]") {
    Guests guests;
    const SessionMost most{.of_source = 3};
    CHECK_FALSE(guests.come(client_of(1, "192.0.2.1"), most));
    CHECK_FALSE(guests.come(client_of(2, "192.0.2.1"), most));
    CHECK_FALSE(guests.come(client_of(2, "192.0.2.1"), most, kMail));
    CHECK(guests.come(client_of(3, "192.0.2.1"), most, kMail)->is(SessionErrc::of_source));
    CHECK_FALSE(guests.come(client_of(3, "192.0.2.2"), most));
    CHECK(guests.sessions->in_all() == 4);
    guests.inside.pop_back();
    guests.inside.pop_back();
    CHECK_FALSE(guests.come(client_of(3, "192.0.2.1"), most));
    CHECK(guests.come(client_of(3, "192.0.2.1"), most)->is(SessionErrc::of_source));
}

TEST_CASE("the sessions of a whole /64 are those of one source", "[net][admission]") {
    Guests guests;
    const SessionMost most{.of_source = 2};
    CHECK_FALSE(guests.come(client_of(1, "2001:db8:0:1::1"), most));
    CHECK_FALSE(guests.come(client_of(1, "2001:db8:0:1:ffff::1"), most));
    CHECK(guests.come(client_of(1, "2001:db8:0:1::2"), most)->is(SessionErrc::of_source));
    CHECK_FALSE(guests.come(client_of(1, "2001:db8:0:2::1"), most));
}

TEST_CASE("a service may have so many sessions, local connections too", "[net][admission]") {
    Guests guests;
    const SessionMost most{.of_service = 2};
    CHECK_FALSE(guests.come(client_of(1, "192.0.2.1"), most));
    CHECK_FALSE(guests.come(std::nullopt, most));
    CHECK(guests.come(std::nullopt, most)->is(SessionErrc::of_service));
    CHECK(guests.come(client_of(2, "192.0.2.2"), most)->is(SessionErrc::of_service));
    CHECK_FALSE(guests.come(std::nullopt, most, kMail));
    guests.inside.pop_front();
    CHECK_FALSE(guests.come(std::nullopt, most));
}

TEST_CASE("all services together may have so many sessions", "[net][admission]") {
    Guests guests;
    const SessionMost most{.in_all = 2};
    CHECK_FALSE(guests.come(client_of(1, "192.0.2.1"), most));
    CHECK_FALSE(guests.come(std::nullopt, most, kMail));
    CHECK(guests.come(client_of(2, "192.0.2.2"), most, kDns)->is(SessionErrc::in_all));
    CHECK(guests.come(client_of(2, "192.0.2.2"), {.in_all = 3}, kDns) == std::nullopt);  // after a reload
}

TEST_CASE("who is refused by one limit has not been counted for another", "[net][admission]") {
    Guests guests;
    CHECK_FALSE(guests.come(client_of(1, "192.0.2.1"), {}));
    for (int i = 0; i < 5; ++i) CHECK(guests.come(client_of(1, "192.0.2.1"), {.in_all = 1}));
    CHECK(guests.sessions->in_all() == 1);
    const SessionMost two{.of_peer = 2, .of_source = 2, .of_service = 2, .in_all = 2};
    CHECK_FALSE(guests.come(client_of(1, "192.0.2.1"), two));
    CHECK(guests.come(client_of(1, "192.0.2.1"), two)->is(SessionErrc::of_peer));
    guests.inside.clear();
    CHECK(guests.sessions->in_all() == 0);
    CHECK_FALSE(
        guests.come(client_of(1, "192.0.2.1"), {.of_peer = 1, .of_source = 1, .of_service = 1, .in_all = 1}));
}

TEST_CASE("keys that somebody chose make the counting no slower", "[net][admission]") {
    constexpr std::uint32_t kFirst = 16;  // what is smaller may be weak
    constexpr std::uint32_t kKeys = 20'000;
    const auto time_of = [](std::size_t place) {  // of the bytes in which the keys differ
        Guests guests;
        const auto began = std::chrono::steady_clock::now();
        for (std::uint32_t i = kFirst; i < kFirst + kKeys; ++i) {
            ByteArray<32> bytes{};
            std::ranges::copy(to_be(i), bytes.begin() + static_cast<std::ptrdiff_t>(place));
            const auto key = crypto::PublicKey::parse(bytes).value();
            REQUIRE_FALSE(guests.come(SessionLimits::Client{key, ip("192.0.2.1")}, {}));
        }
        return std::chrono::steady_clock::now() - began;
    };
    // In a hash table of the first eight bytes the latter would be a list, and some hundred times slower.
    CHECK(time_of(20) < 20 * time_of(4) + std::chrono::milliseconds(200));
}

TEST_CASE("a peer may have so many sessions in all and no more", "[net][admission]") {
    const auto sessions = std::make_shared<SessionLimits>();
    const auto alice = client_of(1, "192.0.2.1");
    const auto bob = client_of(2, "192.0.2.1");
    const SessionMost two{.of_peer = 2};
    auto first = sessions->take(kWeb, alice, two);
    auto second = sessions->take(kMail, alice, two);
    CHECK(first.has_value());
    CHECK(second.has_value());
    CHECK(sessions->take(kWeb, alice, two).error().is(SessionErrc::of_peer));
    CHECK(sessions->take(kWeb, bob, two).has_value());
    {
        auto moved = std::move(*second);
        CHECK_FALSE(sessions->take(kWeb, alice, two).has_value());
    }
    CHECK(sessions->take(kWeb, alice, two).has_value());
    CHECK_FALSE(sessions->take(kWeb, bob, {.of_peer = 0}).has_value());
}

}  // namespace
}  // namespace curvegate::guard
