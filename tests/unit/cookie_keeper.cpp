#include "cookie/keeper.hpp"
#include "support/vault.hpp"

#include <catch2/catch.hpp>

#include <set>

namespace curvegate::cookie {
namespace {

using namespace std::chrono_literals;
using test::kStart;
using wire::curve_tun::Cookie;

static_assert(!std::is_copy_constructible_v<Keeper>);

const Binding kHere{Carrier::tcp, 0, *IpAddress::parse("192.0.2.7")};

/// A keeper with its own clock.
struct Clocked {
    explicit Clocked(crypto::SecretPool& pool = test::pool())
        : keeper(*Keeper::create(pool, random, kStart)) {}

    test::SeededRandom random{1};
    Keeper keeper;
    crypto::EphemeralKeyPair client = test::key_pair_of(test::secret_bytes(1));
    crypto::EphemeralSecret server = test::secret_number<crypto::EphemeralSecret>(2);
    Instant now = kStart;

    [[nodiscard]] Cookie issue(const Binding& binding = kHere) {
        return *keeper.issue(binding, client.public_key, server, random, now);
    }
    [[nodiscard]] bool redeems(const Cookie& cookie, const Binding& binding = kHere) const {
        const auto contents = keeper.redeem(cookie, binding, now);
        if (!contents) {
            CHECK(contents.error().is(Errc::does_not_open));
            return false;
        }
        CHECK(contents->client_short == client.public_key);
        CHECK(std::ranges::equal(crypto::SecretBytes::of(contents->server_short),
                                 crypto::SecretBytes::of(server)));
        return true;
    }
    /// As the timer does: at each deadline until `to`.
    void pass_to(Instant to) {
        while (keeper.next_deadline() <= to) {
            now = keeper.next_deadline();
            REQUIRE(keeper.advance(now, random).has_value());
        }
        now = to;
    }
};

TEST_CASE("a cookie gives back what was sealed in it", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    CHECK(clock.redeems(cookie));
    CHECK(clock.redeems(cookie));  // that it is used once is the connection's business
}

TEST_CASE("a cookie lives as long as its minute key", "[cookie]") {
    Clocked clock;
    const auto at_0 = clock.issue();
    clock.pass_to(kStart + 59s);
    const auto at_59 = clock.issue();
    CHECK(clock.redeems(at_0));
    clock.pass_to(kStart + 61s);
    CHECK(clock.redeems(at_0));
    CHECK(clock.redeems(at_59));
    clock.pass_to(kStart + 119s);
    CHECK(clock.redeems(at_0));
    CHECK(clock.redeems(at_59));
    clock.pass_to(kStart + 121s);  // rotated twice
    CHECK_FALSE(clock.redeems(at_0));
    CHECK_FALSE(clock.redeems(at_59));
}

TEST_CASE("a cookie issued late in a minute lives 60 seconds at least", "[cookie]") {
    Clocked clock;
    clock.pass_to(kStart + 60s);
    const auto cookie = clock.issue();  // under the second key
    clock.pass_to(kStart + 179s);
    CHECK(clock.redeems(cookie));
    clock.pass_to(kStart + 180s);
    CHECK_FALSE(clock.redeems(cookie));
}

TEST_CASE("a cookie dies in time though the timer is late", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    for (const auto& [age, alive] :
         {std::pair{59s, true}, {61s, true}, {119s, true}, {120s, false}, {121s, false}}) {
        INFO(age.count() << " s");
        clock.now = kStart + age;  // nobody called advance()
        CHECK(clock.redeems(cookie) == alive);
    }
}

TEST_CASE("issuing cycles the keys if the timer has not", "[cookie]") {
    Clocked clock;
    clock.now = kStart + 119s;
    const auto cookie = clock.issue();  // under a key born at 60 s
    clock.now = kStart + 179s;
    CHECK(clock.redeems(cookie));
    clock.now = kStart + 181s;
    CHECK_FALSE(clock.redeems(cookie));
}

TEST_CASE("after a pause of hours nothing old opens and new cookies do", "[cookie]") {
    Clocked clock;
    const auto old = clock.issue();
    clock.now = kStart + 7h;
    REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK_FALSE(clock.redeems(old));
    CHECK(clock.keeper.next_deadline() == clock.now + Keeper::kCycle);
    const auto fresh = clock.issue();
    CHECK(clock.redeems(fresh));
    clock.pass_to(clock.now + 119s);
    CHECK(clock.redeems(fresh));
}

TEST_CASE("keys change on the minute while the timer is nearly punctual", "[cookie]") {
    Clocked clock;
    for (int minute = 1; minute <= 5; ++minute) {
        clock.now = kStart + minute * 60s + 3s;  // always a little late
        REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
        CHECK(clock.keeper.next_deadline() == kStart + (minute + 1) * 60s);
    }
}

TEST_CASE("advancing early changes nothing", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    clock.now = kStart + 59s;
    for (int i = 0; i < 5; ++i) REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK(clock.keeper.next_deadline() == kStart + 60s);
    CHECK(clock.redeems(cookie));
}

TEST_CASE("at most two minute keys exist, and the old ones are wiped", "[cookie]") {
    Clocked clock;
    const auto one_key = test::pool().in_use();
    clock.pass_to(kStart + 60s);
    const auto two_keys = test::pool().in_use();
    CHECK(two_keys > one_key);
    clock.pass_to(kStart + 10min);
    CHECK(test::pool().in_use() == two_keys);
    clock.now += 1h;
    REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK(test::pool().in_use() == one_key);
}

TEST_CASE("a cookie opens for its carrier, key slot and address only", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    auto elsewhere = kHere;
    elsewhere.carrier = Carrier::udp;
    CHECK_FALSE(clock.redeems(cookie, elsewhere));
    elsewhere = kHere;
    elsewhere.key_slot = 1;
    CHECK_FALSE(clock.redeems(cookie, elsewhere));
    for (const std::string source : {"192.0.2.6", "192.0.3.7", "::192.0.2.7", "2001:db8::7"}) {
        elsewhere = kHere;
        elsewhere.source = *IpAddress::parse(source);
        CHECK_FALSE(clock.redeems(cookie, elsewhere));
    }
    elsewhere.source = *IpAddress::parse("::ffff:192.0.2.7");  // the same address
    CHECK(clock.redeems(cookie, elsewhere));
}

TEST_CASE("a cookie of another keeper, or of the one before a restart, does not open", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    Clocked other;
    other.random = test::SeededRandom(2);
    other.keeper = *Keeper::create(test::pool(), other.random, kStart);
    CHECK_FALSE(other.redeems(cookie));
}

TEST_CASE("a thousand cookies have a thousand nonces, though the random half repeats", "[cookie]") {
    class Stuck final : public RandomSource {
        void fill(MutableBytes out) override { std::ranges::fill(out, Byte{9}); }
    } stuck;
    Clocked clock;
    std::set<ByteArray<16>> nonces;
    for (int i = 0; i < 1'000; ++i) {
        const auto cookie =
            *clock.keeper.issue(kHere, clock.client.public_key, clock.server, stuck, clock.now);
        nonces.insert(to_array(FixedBytes<Cookie::kSize>(cookie.bytes).first<16>()));
    }
    CHECK(nonces.size() == 1'000);
}

TEST_CASE("a cookie with any bit changed does not open", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    test::each_bit_flip(cookie.bytes, [&](const test::Buffer& changed, std::size_t bit) {
        INFO("bit " << bit);
        Cookie altered;
        std::ranges::copy(changed, altered.bytes.begin());
        const auto contents = clock.keeper.redeem(altered, kHere, clock.now);
        REQUIRE_FALSE(contents.has_value());
        REQUIRE(contents.error().is(Errc::does_not_open));
    });
    CHECK(clock.redeems(cookie));
}

// ---- without locked memory ----

struct FullPool {
    std::unique_ptr<crypto::SecretPool> pool =
        std::move(*crypto::SecretPool::create(crypto::Locking::attempt, 1));
    test::SeededRandom random{1};
    std::vector<crypto::SharedKey> ballast;

    void fill() {
        while (auto one = crypto::SharedKey::random(*pool, random)) ballast.push_back(std::move(*one));
    }
};

TEST_CASE("without locked memory no cookie is issued, and none is redeemed", "[cookie]") {
    FullPool full;
    Clocked clock(*full.pool);
    const auto cookie = clock.issue();
    full.fill();
    const auto issued =
        clock.keeper.issue(kHere, clock.client.public_key, clock.server, clock.random, clock.now);
    REQUIRE_FALSE(issued.has_value());
    CHECK(issued.error().is(crypto::Errc::secrets_full));
    const auto redeemed = clock.keeper.redeem(cookie, kHere, clock.now);
    REQUIRE_FALSE(redeemed.has_value());
    CHECK(redeemed.error().is(crypto::Errc::secrets_full));
    full.ballast.clear();
    CHECK(clock.redeems(cookie));
}

TEST_CASE("keys that are too old stop opening even when no new one can be made", "[cookie]") {
    FullPool full;
    Clocked clock(*full.pool);
    const auto cookie = clock.issue();
    full.fill();
    clock.now = kStart + 2 * Keeper::kCycle;
    CHECK_FALSE(clock.keeper.advance(clock.now, clock.random).has_value());
    full.ballast.clear();
    CHECK_FALSE(clock.redeems(cookie));
    REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK(clock.redeems(clock.issue()));
}

}  // namespace
}  // namespace curvegate::cookie
