#include "stream/intervals.hpp"
#include "support/bytes.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <set>

namespace curvegate::stream {
namespace {

using wire::curvecp::Range;
using Added = Intervals::Added;
using Ranges = std::array<Range, wire::curvecp::kRanges>;

Ranges selected(const Intervals& from) {
    Ranges out{};
    out[0].end = from.prefix();
    from.select(out);
    return out;
}
std::vector<Range> behind(const Intervals& from) {
    std::vector<Range> out;
    for (const auto& range : selected(from))
        if (range.begin < range.end && range.begin > 0) out.push_back(range);
    return out;
}

TEST_CASE("what comes in order only moves the prefix", "[stream]") {
    Intervals intervals;
    CHECK(intervals.add(0, 1'024) == Added::in_order);
    CHECK(intervals.add(1'024, 1'030) == Added::in_order);
    CHECK(intervals.add(500, 1'030) == Added::nothing);
    CHECK(intervals.add(500, 1'031) == Added::in_order);
    CHECK(intervals.prefix() == 1'031);
    CHECK_FALSE(intervals.has_holes());
    CHECK(behind(intervals).empty());
}

TEST_CASE("what fills a hole takes in all that stood behind it", "[stream]") {
    Intervals intervals;
    CHECK(intervals.add(100, 200) == Added::behind);
    CHECK(intervals.add(200, 300) == Added::behind);
    CHECK(intervals.add(400, 500) == Added::behind);
    CHECK(intervals.add(120, 280) == Added::nothing);
    CHECK(behind(intervals) == std::vector<Range>{{100, 300}, {400, 500}});
    CHECK(intervals.highest() == 500);
    CHECK(intervals.add(0, 100) == Added::in_order);
    CHECK(intervals.prefix() == 300);
    CHECK(behind(intervals) == std::vector<Range>{{400, 500}});
    CHECK(intervals.add(250, 450) == Added::in_order);
    CHECK(intervals.prefix() == 500);
    CHECK_FALSE(intervals.has_holes());
}

TEST_CASE("a range is never longer than its field and ends at the edge of a block", "[stream]") {
    Intervals intervals;
    for (std::uint64_t i = 1; i <= 200; ++i)
        CHECK(intervals.add(i * 1'024, (i + 1) * 1'024) == Added::behind);
    CHECK(behind(intervals) ==
          std::vector<Range>{{1'024, 65'536}, {65'536, 130'048}, {130'048, 194'560}, {194'560, 205'824}});
    for (const auto& range : behind(intervals)) CHECK(range.end - range.begin <= Intervals::kLongest);
    // A hole filled from below joins no more than fits either.
    Intervals other;
    CHECK(other.add(2'048, 2'048 + 1'024) == Added::behind);
    for (std::uint64_t i = 3; i < 65; ++i) CHECK(other.add(i * 1'024, (i + 1) * 1'024) == Added::behind);
    CHECK(other.add(1'024, 2'048) == Added::behind);
    CHECK(behind(other) == std::vector<Range>{{1'024, 2'048}, {2'048, 2'048 + 63 * 1'024}});
}

TEST_CASE("of more than five ranges those go out that changed last, in the order of the stream", "[stream]") {
    Intervals intervals;
    for (const std::uint64_t at : {90U, 10U, 70U, 30U, 50U, 20U, 80U})
        CHECK(intervals.add(at * 1'000, at * 1'000 + 100) == Added::behind);
    CHECK(behind(intervals) ==
          std::vector<Range>{
              {20'000, 20'100}, {30'000, 30'100}, {50'000, 50'100}, {70'000, 70'100}, {80'000, 80'100}});
    CHECK(intervals.add(10'100, 10'200) == Added::behind);
    CHECK(behind(intervals) ==
          std::vector<Range>{
              {10'000, 10'200}, {20'000, 20'100}, {30'000, 30'100}, {50'000, 50'100}, {80'000, 80'100}});
}

TEST_CASE("five ranges go out though those that changed last are gone", "[stream]") {
    Intervals intervals;
    for (std::uint64_t at = 10; at < 20; ++at)
        CHECK(intervals.add(at * 1'000, at * 1'000 + 100) == Added::behind);
    for (std::uint64_t i = 1; i < 10; ++i)
        CHECK(intervals.add(19'000 + i * 100, 19'100 + i * 100) == Added::behind);
    CHECK(behind(intervals).size() == 5);
    CHECK(behind(intervals).back() == Range{19'000, 20'000});
}

TEST_CASE("a gap too wide for its field drops the range beside it that changed longer ago", "[stream]") {
    Intervals intervals;
    CHECK(intervals.add(3'000'000, 3'000'100) == Added::behind);  // the first gap has 32 bits
    CHECK(behind(intervals) == std::vector<Range>{{3'000'000, 3'000'100}});
    CHECK(intervals.add(3'065'635, 3'065'700) == Added::behind);  // a gap of 65,535
    CHECK(behind(intervals).size() == 2);
    CHECK(intervals.add(3'131'236, 3'131'300) == Added::behind);  // of 65,536
    CHECK(behind(intervals) == std::vector<Range>{{3'131'236, 3'131'300}});
    CHECK(intervals.add(3'000'100, 3'000'200) == Added::behind);
    CHECK(behind(intervals) == std::vector<Range>{{3'000'000, 3'000'200}, {3'065'635, 3'065'700}});
    CHECK(intervals.add(1'000, 1'100) == Added::behind);
    CHECK(behind(intervals) == std::vector<Range>{{1'000, 1'100}});
}

TEST_CASE("one hole too many is refused, and filling one makes room", "[stream]") {
    Intervals intervals;
    for (std::uint64_t i = 0; i < Intervals::kMost; ++i)
        REQUIRE(intervals.add(2 * i + 1, 2 * i + 2) == Added::behind);
    CHECK(intervals.add(20'001, 20'002) == Added::refused);
    CHECK(intervals.highest() == 2 * Intervals::kMost);
    CHECK(intervals.add(2, 3) == Added::behind);
    CHECK(intervals.add(20'001, 20'002) == Added::behind);
}

TEST_CASE("any order and any overlap end in what a set of bytes would hold", "[stream]") {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        INFO("CURVEGATE_SEED=" << seed);
        test::SeededRandom random(seed);
        Intervals intervals;
        std::set<std::uint64_t> bytes;
        for (int i = 0; i < 100; ++i) {
            const std::uint64_t begin = random.below(400);
            const std::uint64_t end = begin + 1 + random.below(30);
            bool fresh = false;
            for (auto at = begin; at < end; ++at) fresh = bytes.insert(at).second || fresh;
            const auto added = intervals.add(begin, end);
            REQUIRE((added != Added::nothing) == fresh);
            std::uint64_t prefix = 0;
            while (bytes.contains(prefix)) ++prefix;
            REQUIRE(intervals.prefix() == prefix);
            REQUIRE(intervals.highest() == *bytes.rbegin() + 1);
            std::uint64_t last = prefix;
            for (const auto& range : behind(intervals)) {
                REQUIRE(range.begin >= last);
                for (auto at = range.begin; at < range.end; ++at) REQUIRE(bytes.contains(at));
                last = range.end;
            }
        }
    }
}

// The same with a limit that bites: overlaps of ranges as long as they may be.
TEST_CASE("long ranges never take in a byte that did not come", "[stream]") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        INFO("CURVEGATE_SEED=" << seed);
        test::SeededRandom random(seed);
        Intervals intervals;
        std::vector<bool> came(400'000);
        for (int i = 0; i < 2'000; ++i) {
            const std::uint64_t begin = 5'000 + random.below(300'000);
            const std::uint64_t end = begin + 1 + random.below(1'024);
            for (auto at = begin; at < end; ++at) came[at] = true;
            REQUIRE(intervals.add(begin, end) != Added::refused);
            for (const auto& range : behind(intervals)) {
                REQUIRE(range.end - range.begin <= Intervals::kLongest);
                REQUIRE(range.begin < range.end);
                REQUIRE(std::all_of(came.begin() + static_cast<std::ptrdiff_t>(range.begin),
                                    came.begin() + static_cast<std::ptrdiff_t>(range.end),
                                    [](bool b) { return b; }));
            }
        }
    }
}

}  // namespace
}  // namespace curvegate::stream
