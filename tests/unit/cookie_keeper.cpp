#include "cookie/keeper.hpp"
#include "os/sanitizer.hpp"
#include "os/secret_pages.hpp"
#include "support/vault.hpp"

#include <catch2/catch.hpp>

#include <malloc.h>
#include <set>

namespace curvegate::cookie {
namespace {

using namespace std::chrono_literals;
using test::kStart;
using wire::Cookie;

static_assert(!std::is_copy_constructible_v<Keeper>);

const Binding kHere{Wire::curve_tun, 0, *IpAddress::parse("192.0.2.7")};

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
        const auto redeemed = keeper.redeem(cookie, binding, now);
        if (!redeemed) {
            CHECK(redeemed.error().is(Errc::does_not_open));
            return false;
        }
        CHECK_FALSE(redeemed->used);
        CHECK(redeemed->contents.client_short == client.public_key);
        CHECK(std::ranges::equal(crypto::SecretBytes::of(redeemed->contents.server_short),
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
    CHECK(clock.redeems(cookie));  // over TCP, that it is used once is the connection's business
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

TEST_CASE("a timer that is two minutes late to the tick begins a new phase, without a dead key", "[cookie]") {
    Clocked clock;
    const auto one_key = test::pool().in_use();
    clock.now = kStart + 2 * Keeper::kCycle - 1ns;
    REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK(clock.keeper.next_deadline() == kStart + 2 * Keeper::kCycle);
    CHECK(test::pool().in_use() > one_key);

    Clocked later;
    const auto before = test::pool().in_use();
    later.now = kStart + 2 * Keeper::kCycle;  // at this moment nothing under the key of kStart opens any more
    REQUIRE(later.keeper.advance(later.now, later.random).has_value());
    CHECK(later.keeper.next_deadline() == later.now + Keeper::kCycle);
    CHECK(test::pool().in_use() == before);
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

TEST_CASE("a cookie opens for its wire, key slot and address only", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue();
    auto elsewhere = kHere;
    elsewhere.wire = Wire::curvecp;
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

TEST_CASE("a cookie of one key slot does not open under another, and tells which is its own", "[cookie]") {
    Clocked clock;
    const Origin here{kHere.wire, kHere.source};
    for (const Byte slot : std::initializer_list<Byte>{0, 1, 2, 64, 127}) {
        auto binding = kHere;
        binding.key_slot = slot;
        const auto cookie =
            *clock.keeper.issue(binding, clock.client.public_key, clock.server, clock.random, clock.now);
        const auto redeemed = clock.keeper.redeem(cookie, here, clock.now);
        REQUIRE(redeemed.has_value());
        CHECK(redeemed->key_slot == slot);
        CHECK(clock.keeper.claim(redeemed->ticket));
        CHECK(clock.keeper.redeem(cookie, here, clock.now)->used);
        for (const Byte other : std::initializer_list<Byte>{0, 1, 2, 64, 127}) {
            binding.key_slot = other;
            CHECK(clock.keeper.redeem(cookie, binding, clock.now).has_value() == (other == slot));
        }
        CHECK_FALSE(clock.keeper.redeem(cookie, Origin{Wire::curvecp, kHere.source}, clock.now).has_value());
    }
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

// ---- the cap ----

TEST_CASE("a minute key seals 2^57 cookies and then none, until the next key", "[cookie]") {
    Clocked clock;
    clock.keeper = *Keeper::create(test::pool(), clock.random, kStart, Keeper::kMostCookies - 2);
    auto last_slot = kHere;
    last_slot.key_slot = 127;
    const auto issue = [&](const Binding& binding) {
        return clock.keeper.issue(binding, clock.client.public_key, clock.server, clock.random, clock.now);
    };
    const auto but_one = issue(kHere);
    const auto last = issue(last_slot);
    REQUIRE(but_one.has_value());
    REQUIRE(last.has_value());
    for (const Binding& binding : {kHere, last_slot}) {
        for (int again = 0; again < 2; ++again) {  // nothing begins anew
            const auto more = issue(binding);
            REQUIRE_FALSE(more.has_value());
            CHECK(more.error().is(Errc::indices_exhausted));
        }
    }
    // The highest index of all leaves the slot's bits alone, and what was issued stays good.
    CHECK(clock.redeems(*but_one));
    CHECK(clock.redeems(*last, last_slot));
    const auto found = clock.keeper.redeem(*last, Origin{kHere.wire, kHere.source}, clock.now);
    REQUIRE(found.has_value());
    CHECK(found->key_slot == 127);
    CHECK(found->ticket.index == (std::uint64_t{1} << 57) - 1);

    clock.now = kStart + 60s - 1ns;
    CHECK_FALSE(issue(kHere).has_value());
    clock.now = kStart + 60s;  // issuing changes the key
    CHECK(clock.redeems(clock.issue()));
    CHECK(clock.redeems(*but_one));
}

// ---- claims ----

const Binding kUdp{Wire::curvecp, 0, *IpAddress::parse("192.0.2.7")};

Redeemed redeemed(const Clocked& clock, const Cookie& cookie) {
    auto out = clock.keeper.redeem(cookie, kUdp, clock.now);
    REQUIRE(out.has_value());
    return std::move(*out);
}

TEST_CASE("a cookie is claimed once, and whoever redeems it after sees that", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue(kUdp);
    const auto other = clock.issue(kUdp);
    const auto first = redeemed(clock, cookie);
    const auto second = redeemed(clock, cookie);  // two Initiates at once, both let through
    CHECK_FALSE(first.used);
    CHECK_FALSE(second.used);
    CHECK(clock.keeper.claim(first.ticket));
    CHECK_FALSE(clock.keeper.claim(second.ticket));
    CHECK_FALSE(clock.keeper.claim(first.ticket));
    CHECK(redeemed(clock, cookie).used);
    CHECK_FALSE(redeemed(clock, other).used);
    CHECK(clock.keeper.claim(redeemed(clock, other).ticket));
}

TEST_CASE("to redeem is not to claim", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue(kUdp);
    for (int i = 0; i < 100; ++i) CHECK_FALSE(redeemed(clock, cookie).used);
    CHECK(clock.keeper.claim(redeemed(clock, cookie).ticket));
}

TEST_CASE("each cookie has a ticket of its own, in whatever order they are claimed", "[cookie]") {
    Clocked clock;
    std::vector<Cookie> cookies;
    for (int i = 0; i < 200; ++i) cookies.push_back(clock.issue(i % 2 == 0 ? kUdp : kHere));
    std::set<std::uint64_t> indices;
    for (std::size_t i = 200; i-- > 0;) {
        const auto& binding = i % 2 == 0 ? kUdp : kHere;
        const auto ticket = clock.keeper.redeem(cookies[i], binding, clock.now)->ticket;
        CHECK(ticket.index < 200);
        CHECK(indices.insert(ticket.index).second);
        CHECK(clock.keeper.claim(ticket));
    }
    for (std::size_t i = 0; i < 200; ++i)
        CHECK(clock.keeper.redeem(cookies[i], i % 2 == 0 ? kUdp : kHere, clock.now)->used);
}

TEST_CASE("only what was issued can be claimed", "[cookie]") {
    Clocked clock;
    auto ticket = redeemed(clock, clock.issue(kUdp)).ticket;
    for (const std::uint64_t index : {std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{64},
                                      std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
        INFO(index);
        CHECK_FALSE(clock.keeper.claim({ticket.minute, index}));  // would be memory for a stranger's number
    }
    CHECK_FALSE(clock.keeper.claim({ticket.minute - 1s, ticket.index}));
    CHECK_FALSE(clock.keeper.claim({ticket.minute + 60s, ticket.index}));
    CHECK(clock.keeper.claim(ticket));
}

TEST_CASE("what was claimed is remembered as long as its cookie opens", "[cookie]") {
    Clocked clock;
    const auto cookie = clock.issue(kUdp);
    const auto late = clock.issue(kUdp);
    const auto ticket = redeemed(clock, cookie).ticket;
    const auto late_ticket = redeemed(clock, late).ticket;
    REQUIRE(clock.keeper.claim(ticket));
    for (const auto age : {0s, 59s, 60s, 61s, 119s}) {
        INFO(age.count() << " s");
        clock.pass_to(kStart + age);
        CHECK(redeemed(clock, cookie).used);
        CHECK_FALSE(clock.keeper.claim(ticket));
        CHECK_FALSE(redeemed(clock, late).used);
    }
    CHECK(clock.keeper.claim(late_ticket));  // under the previous key
    CHECK(redeemed(clock, late).used);
    clock.pass_to(kStart + 120s);
    CHECK_FALSE(clock.keeper.redeem(cookie, kUdp, clock.now).has_value());
    CHECK_FALSE(clock.keeper.claim(ticket));
}

TEST_CASE("a ticket dies with its minute key", "[cookie]") {
    Clocked clock;
    const auto ticket = redeemed(clock, clock.issue(kUdp)).ticket;
    clock.pass_to(kStart + 120s);
    const auto fresh = redeemed(clock, clock.issue(kUdp)).ticket;
    CHECK(fresh.index == ticket.index);  // each key counts from the start
    CHECK_FALSE(clock.keeper.claim(ticket));
    CHECK(clock.keeper.claim(fresh));
    clock.now += 7h;
    REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK_FALSE(clock.keeper.claim(fresh));
}

TEST_CASE("claims under one key say nothing about the other's", "[cookie]") {
    Clocked clock;
    const auto old = clock.issue(kUdp);
    clock.pass_to(kStart + 60s);
    const auto fresh = clock.issue(kUdp);
    REQUIRE(redeemed(clock, old).ticket.index == redeemed(clock, fresh).ticket.index);
    CHECK(clock.keeper.claim(redeemed(clock, old).ticket));
    CHECK_FALSE(redeemed(clock, fresh).used);
    CHECK(clock.keeper.claim(redeemed(clock, fresh).ticket));
    CHECK_FALSE(clock.keeper.claim(redeemed(clock, old).ticket));
}

TEST_CASE("of a million cookies a hundred thousand come twice, and each counts once", "[cookie]") {
    constexpr std::size_t kIssued = 1'000'000;
    Clocked clock;
    std::vector<Cookie> kept;
    for (std::size_t i = 0; i < kIssued; ++i) {
        const auto cookie = clock.issue(kUdp);
        if (i % 10 == 9) kept.push_back(cookie);
    }
    REQUIRE(kept.size() == 100'000);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < kept.size(); ++i) order.insert(order.end(), 2, i);
    for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[clock.random.below(i + 1)]);
    std::vector<bool> accepted(kept.size());
    for (const auto at : order) {
        const auto came = redeemed(clock, kept[at]);
        if (came.used != accepted[at]) FAIL("cookie " << at << " is used: " << came.used);
        if (clock.keeper.claim(came.ticket) == accepted[at]) FAIL("cookie " << at << " counts otherwise");
        accepted[at] = true;
    }
    CHECK(std::ranges::all_of(accepted, [](bool one) { return one; }));
}

/// Bytes that the program has from the heap.
std::size_t heap_in_use() {
    const auto info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
}

TEST_CASE("what was claimed is remembered in one bit a cookie, from the first claim on", "[cookie]") {
    constexpr std::size_t kIssued = 500'000;
    if (os::kSanitized) {
        WARN("skipped: a sanitizer's allocator does not tell what it has given out");
        return;
    }
    Clocked clock;
    const auto before = heap_in_use();
    for (std::size_t i = 1; i < kIssued; ++i) (void)clock.issue(kUdp);
    const auto last = redeemed(clock, clock.issue(kUdp)).ticket;
    REQUIRE(last.index == kIssued - 1);
    CHECK(heap_in_use() < before + 4'096);  // to ask for cookies makes nothing grow
    REQUIRE(clock.keeper.claim(last));
    CHECK(heap_in_use() > before + kIssued / 8 - 4'096);
    CHECK(heap_in_use() < before + kIssued / 8 + 8'192);
    clock.pass_to(kStart + 120s);
    CHECK(heap_in_use() < before + 4'096);
}

// ---- without locked memory ----

struct FullPool {
    std::unique_ptr<crypto::SecretPool> pool =
        std::move(*crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 1));
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

TEST_CASE("a key for which there is no memory is tried for again, and not at once", "[cookie]") {
    FullPool full;
    Clocked clock(*full.pool);
    full.fill();
    for (int i = 0; i < 3; ++i) {
        clock.now = clock.keeper.next_deadline();
        CHECK_FALSE(clock.keeper.advance(clock.now, clock.random).has_value());
        CHECK(clock.keeper.next_deadline() == clock.now + Keeper::kTryAgain);
    }
    full.ballast.clear();
    clock.now = clock.keeper.next_deadline();
    REQUIRE(clock.keeper.advance(clock.now, clock.random).has_value());
    CHECK(clock.keeper.next_deadline() == kStart + 2 * Keeper::kCycle);  // the phase does not drift
}

}  // namespace
}  // namespace curvegate::cookie
