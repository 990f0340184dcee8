#include "daemon/front/name_table.hpp"

#include <catch2/catch.hpp>

namespace curvegate::daemon::front {
namespace {

using namespace std::chrono_literals;
using Addresses = std::vector<ScopedIp>;
using Outcome = NameOutcome;

const Addresses kOld = {*IpAddress::parse("192.0.2.1")};
const Addresses kNew = {*IpAddress::parse("192.0.2.2")};

/// A table, those who ask it, and the time.
struct Rig {
    NameTable table;
    Instant now = Instant() + 1'000s;
    std::vector<std::optional<NameAnswer>> told;

    /// Its place in `told`.
    std::size_t ask(const std::string& host) {
        const std::size_t place = told.size();
        told.emplace_back();
        table.resolve(host, now, [this, place](const NameAnswer& answer) {
            CHECK_FALSE(told[place].has_value());
            told[place] = answer;
        });
        return place;
    }
    std::vector<NameTable::Ask> asks() {
        std::vector<NameTable::Ask> out;
        while (auto ask = table.next_ask(now)) out.push_back(*ask);
        return out;
    }
    /// A name that has resolved, and must be asked anew.
    void learn(const std::string& host) {
        ask(host);
        for (const auto& look_up : asks())
            CHECK_FALSE(table.answered(look_up.id, {Outcome::found, kOld}, now));
        now += NameTable::kFresh;
    }
    /// Goes from deadline to deadline, as a timer would.
    void pass(Duration time) {
        const Instant end = now + time;
        for (auto next = table.next_deadline(); next && *next <= end; next = table.next_deadline()) {
            now = *next;
            for (auto& failure : table.advance(now)) failures.push_back(std::move(failure));
        }
        now = end;
    }
    std::vector<NameTable::Failure> failures;

    [[nodiscard]] bool waits(std::size_t place) const { return !told[place].has_value(); }
    [[nodiscard]] Addresses got(std::size_t place) const {
        return told[place] && told[place]->outcome == Outcome::found ? told[place]->addresses : Addresses();
    }
    [[nodiscard]] Outcome outcome(std::size_t place) const {
        REQUIRE(told[place].has_value());
        return told[place]->outcome;
    }
};

TEST_CASE("a name is asked for once, however many wait, and its answer holds for a moment",
          "[daemon][names]") {
    Rig rig;
    const auto first = rig.ask("a");
    const auto asks = rig.asks();
    REQUIRE(asks.size() == 1);
    CHECK(asks[0].host == "a");
    const auto second = rig.ask("a");
    CHECK(rig.asks().empty());
    CHECK(rig.waits(first));
    CHECK_FALSE(rig.table.answered(asks[0].id, {Outcome::found, kOld}, rig.now));
    CHECK(rig.got(first) == kOld);
    CHECK(rig.got(second) == kOld);
    CHECK(rig.table.waiting() == 0);
    rig.now += NameTable::kFresh - 1ms;
    CHECK(rig.got(rig.ask("a")) == kOld);
    CHECK(rig.asks().empty());
    rig.now += 1ms;
    const auto later = rig.ask("a");
    const auto again = rig.asks();
    REQUIRE(again.size() == 1);
    CHECK_FALSE(rig.table.answered(again[0].id, {Outcome::found, kNew}, rig.now));
    CHECK(rig.got(later) == kNew);
    CHECK_FALSE(rig.table.next_deadline().has_value());
}

TEST_CASE("while nobody answers, a name that resolved once keeps working", "[daemon][names]") {
    Rig rig;
    rig.learn("a");
    const auto first = rig.ask("a");
    const auto look_up = rig.asks();
    REQUIRE(look_up.size() == 1);
    rig.pass(NameTable::kPatience - 1ms);
    CHECK(rig.waits(first));
    rig.pass(1ms);
    CHECK(rig.got(first) == kOld);
    SECTION("those who come while it is silent do not wait, and the look-up goes on") {
        CHECK(rig.got(rig.ask("a")) == kOld);
        CHECK(rig.asks().empty());
        CHECK_FALSE(rig.table.answered(look_up[0].id, {Outcome::found, kNew}, rig.now));
        CHECK(rig.got(rig.ask("a")) == kNew);
    }
    SECTION("after it has failed nobody is patient again, until there is an answer") {
        const auto failure = rig.table.answered(look_up[0].id, {Outcome::no_answer, {}}, rig.now);
        REQUIRE(failure.has_value());
        CHECK(failure->stale);
        CHECK(failure->why == Outcome::no_answer);
        CHECK(rig.got(rig.ask("a")) == kOld);
        CHECK(rig.asks().empty());
        rig.now += NameTable::kFresh;
        CHECK(rig.got(rig.ask("a")) == kOld);
        const auto next = rig.asks();
        REQUIRE(next.size() == 1);
        CHECK_FALSE(rig.table.answered(next[0].id, {Outcome::found, kNew}, rig.now));
        CHECK(rig.got(rig.ask("a")) == kNew);
    }
}

TEST_CASE("a name that does not resolve any more keeps its last addresses", "[daemon][names]") {
    Rig rig;
    rig.learn("a");
    const auto place = rig.ask("a");
    const auto failure = rig.table.answered(rig.asks().at(0).id, {Outcome::unknown, {}}, rig.now);
    REQUIRE(failure.has_value());
    CHECK(failure->host == "a");
    CHECK(failure->stale);
    CHECK(rig.got(place) == kOld);
}

TEST_CASE("what became of a look-up is told to who has no addresses", "[daemon][names]") {
    for (const auto outcome : {Outcome::unknown, Outcome::no_answer, Outcome::busy, Outcome::own_lack}) {
        Rig rig;
        const auto place = rig.ask("a");
        const auto failure = rig.table.answered(rig.asks().at(0).id, {outcome, {}}, rig.now);
        REQUIRE(failure.has_value());
        CHECK_FALSE(failure->stale);
        CHECK(rig.outcome(place) == outcome);
        rig.ask("a");
        CHECK(rig.asks().size() == 1);  // the next one finds out anew
    }
    Rig rig;
    const auto place = rig.ask("a");
    CHECK(rig.table.answered(rig.asks().at(0).id, {Outcome::found, {}}, rig.now).has_value());
    CHECK(rig.outcome(place) == Outcome::unknown);
}

TEST_CASE("a request or an answer that is lost costs one wait, and nothing is left of it",
          "[daemon][names]") {
    Rig rig;
    const auto place = rig.ask("a");
    const auto lost = rig.asks();
    REQUIRE(lost.size() == 1);
    rig.pass(NameTable::kLost - 1ms);
    CHECK(rig.waits(place));
    rig.pass(1ms);
    CHECK(rig.outcome(place) == Outcome::no_answer);
    REQUIRE(rig.failures.size() == 1);
    CHECK(rig.failures[0].host == "a");
    CHECK(rig.table.waiting() == 0);
    CHECK_FALSE(rig.table.next_deadline().has_value());
    CHECK_FALSE(rig.table.answered(lost[0].id, {Outcome::found, kOld}, rig.now).has_value());  // too late
    const auto next = rig.ask("a");
    const auto asks = rig.asks();
    REQUIRE(asks.size() == 1);
    CHECK(asks[0].id != lost[0].id);
    CHECK_FALSE(rig.table.answered(asks[0].id, {Outcome::found, kNew}, rig.now));
    CHECK(rig.got(next) == kNew);
    CHECK_FALSE(rig.table.answered(12'345, {Outcome::found, kOld}, rig.now).has_value());
}

TEST_CASE("look-ups beyond those at once wait in their order", "[daemon][names]") {
    Rig rig;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < NameTable::kAtOnce + 2; ++i) places.push_back(rig.ask(std::to_string(i)));
    const auto asks = rig.asks();
    REQUIRE(asks.size() == NameTable::kAtOnce);
    CHECK(rig.waits(places.back()));
    (void)rig.table.answered(asks[3].id, {Outcome::found, kOld}, rig.now);
    const auto next = rig.asks();
    REQUIRE(next.size() == 1);
    CHECK(next[0].host == std::to_string(NameTable::kAtOnce));
    SECTION("for a time") {
        rig.pass(NameTable::kLongestWait);  // the others are lost and give their place
        CHECK(rig.outcome(places.back()) == Outcome::busy);
        CHECK(rig.asks().size() == 1);
    }
}

TEST_CASE("names that wait for a look-up, and those who wait for a name, are bounded", "[daemon][names]") {
    Rig rig;
    SECTION("names") {
        rig.learn("known");
        for (std::size_t i = 0; i < NameTable::kAtOnce; ++i) rig.ask("under way " + std::to_string(i));
        CHECK(rig.asks().size() == NameTable::kAtOnce);
        for (std::size_t i = 0; i < NameTable::kMostQueued; ++i) rig.ask("queued " + std::to_string(i));
        CHECK(rig.outcome(rig.ask("one more")) == Outcome::busy);
        CHECK(rig.got(rig.ask("known")) == kOld);
        CHECK(rig.waits(rig.ask("queued 7")));
    }
    SECTION("those who wait") {
        for (std::size_t i = 0; i < NameTable::kMostWaiting; ++i) rig.ask("a");
        CHECK(rig.table.waiting() == NameTable::kMostWaiting);
        CHECK(rig.outcome(rig.ask("a")) == Outcome::busy);
        (void)rig.table.answered(rig.asks().at(0).id, {Outcome::found, kOld}, rig.now);
        CHECK(rig.table.waiting() == 0);
        CHECK(rig.got(0) == kOld);
    }
}

TEST_CASE("a reload forgets names that are not configured any more", "[daemon][names]") {
    Rig rig;
    rig.learn("stays");
    rig.learn("goes");
    const auto waits = rig.ask("asked for");
    const auto asks = rig.asks();
    rig.table.keep({"stays"});
    CHECK(rig.table.known() == 2);
    (void)rig.table.answered(asks.at(0).id, {Outcome::found, kNew}, rig.now);
    CHECK(rig.got(waits) == kNew);
    CHECK(rig.waits(rig.ask("goes")));
    const auto stays = rig.ask("stays");
    rig.pass(NameTable::kPatience);
    CHECK(rig.got(stays) == kOld);
}

}  // namespace
}  // namespace curvegate::daemon::front
