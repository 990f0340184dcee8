#include "guard/target_health.hpp"

#include <catch2/catch.hpp>

namespace curvegate::guard {
namespace {

using namespace std::chrono_literals;
using Order = std::vector<std::size_t>;

const std::vector<std::string> kThree = {"a", "b", "c"};
const Instant kStart = Instant() + 1'000s;

struct Rig {
    TargetHealth health;
    Instant now = kStart;
    Failover failover = Failover::prio;

    Order order() { return health.order(kThree, failover, now); }
    Duration fail(const std::string& target) { return health.failed(target, now, now); }
    void wait(Duration how_long) { now += how_long; }
};

TEST_CASE("prio asks in order, and those that failed last", "[net][targets]") {
    Rig rig;
    CHECK(rig.order() == Order{0, 1, 2});
    CHECK(rig.order() == Order{0, 1, 2});
    CHECK(rig.fail("a") == 1s);
    CHECK(rig.order() == Order{1, 2, 0});
    CHECK_FALSE(rig.health.state("a", rig.now).up);
    CHECK(rig.health.state("a", rig.now).rests == 1s);
    CHECK(rig.health.state("b", rig.now).up);
}

TEST_CASE("a rest doubles from 1 s to 60 s, and a success ends it", "[net][targets]") {
    Rig rig;
    for (const auto rest : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s}) {
        CHECK(rig.fail("a") == rest);
        rig.wait(rest - 1ms);
        CHECK(rig.order() == Order{1, 2, 0});
        rig.wait(1ms);
    }
    CHECK(rig.health.succeeded("a"));
    CHECK_FALSE(rig.health.succeeded("a"));
    CHECK(rig.health.state("a", rig.now).up);
    CHECK(rig.order() == Order{0, 1, 2});
    CHECK(rig.fail("a") == 1s);
}

TEST_CASE("when a rest is over, one connection finds out and the others do not wait", "[net][targets]") {
    Rig rig;
    (void)rig.fail("a");
    rig.wait(1s);
    CHECK(rig.order() == Order{0, 1, 2});
    CHECK(rig.order() == Order{1, 2, 0});
    SECTION("it is back") {
        CHECK(rig.health.succeeded("a"));
        CHECK(rig.order() == Order{0, 1, 2});
    }
    SECTION("it is not") {
        CHECK(rig.fail("a") == 2s);
        rig.wait(1'999ms);
        CHECK(rig.order() == Order{1, 2, 0});
    }
    SECTION("whoever asked never said") {
        rig.wait(1s);
        CHECK(rig.order() == Order{0, 1, 2});
    }
}

TEST_CASE("when all rest, the one whose rest ends first is asked first", "[net][targets]") {
    Rig rig;
    (void)rig.fail("a");
    (void)rig.fail("a");
    (void)rig.fail("b");
    (void)rig.fail("b");
    (void)rig.fail("b");
    (void)rig.fail("c");
    CHECK(rig.order() == Order{2, 0, 1});
}

TEST_CASE("tries that were under way together fail together", "[net][targets]") {
    Rig rig;
    const Instant began = rig.now;
    rig.wait(5s);
    for (int i = 0; i < 100; ++i) CHECK(rig.health.failed("a", began, rig.now) == 1s);
    rig.wait(1s);
    CHECK(rig.health.failed("a", began, rig.now) == 0s);
    CHECK(rig.health.failed("a", rig.now, rig.now) == 2s);
}

TEST_CASE("rr begins with the next one each time, evenly among those that do not rest", "[net][targets]") {
    Rig rig;
    rig.failover = Failover::round_robin;
    std::vector<int> first(3);
    for (int i = 0; i < 300; ++i) {
        const auto order = rig.order();
        CHECK(order[1] == (order[0] + 1) % 3);
        ++first[order[0]];
    }
    CHECK(first == std::vector<int>{100, 100, 100});
    (void)rig.fail("b");
    first.assign(3, 0);
    for (int i = 0; i < 300; ++i) {
        const auto order = rig.order();
        CHECK(order[2] == 1);
        ++first[order[0]];
    }
    CHECK(first == std::vector<int>{150, 0, 150});
}

TEST_CASE("a reload forgets what is not configured any more", "[net][targets]") {
    Rig rig;
    (void)rig.fail("a");
    (void)rig.fail("b");
    rig.health.keep(std::vector<std::string>{"b", "d"});
    CHECK(rig.health.state("a", rig.now).up);
    CHECK_FALSE(rig.health.state("b", rig.now).up);
}

}  // namespace
}  // namespace curvegate::guard
