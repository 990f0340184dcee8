#include "session/window.hpp"
#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <set>

namespace curvegate::session {
namespace {

using crypto::PacketNumber;

constexpr std::uint64_t kSize = ReceiveWindow::kSize;
constexpr std::uint64_t kLast = ~std::uint64_t{0};

/// As the session does it. False: repeated or too old.
bool takes(ReceiveWindow& window, std::uint64_t number) {
    if (!window.is_new({number})) return false;
    window.mark({number});
    return true;
}

/// The same by a list of all that came.
class SlowWindow {
  public:
    bool takes(std::uint64_t number) {
        if (!seen_.empty()) {
            const std::uint64_t highest = *seen_.rbegin();
            if (number <= highest && highest - number >= kSize) return false;
        }
        return seen_.insert(number).second;
    }
    [[nodiscard]] std::uint64_t highest() const { return seen_.empty() ? 0 : *seen_.rbegin(); }

  private:
    std::set<std::uint64_t> seen_;
};

TEST_CASE("any number may be the first, and each comes once", "[session][curvecp]") {
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{63}, kSize,
                                      std::uint64_t{1} << 47, std::uint64_t{1} << 63, kLast - 1, kLast}) {
        INFO(first);
        ReceiveWindow window;
        CHECK(window.is_new({first}));
        CHECK(window.is_newest({first}));
        CHECK(window.is_new({first}));  // asking changes nothing
        CHECK(takes(window, first));
        CHECK_FALSE(takes(window, first));
        CHECK_FALSE(window.is_newest({first}));
    }
}

TEST_CASE("numbers may come late until they are 8192 behind the highest", "[session][curvecp]") {
    for (const std::uint64_t highest : {kSize, kSize + 1, kSize + 63, kSize + 64, 3 * kSize + 17,
                                        std::uint64_t{1} << 48, std::uint64_t{1} << 63, kLast - 1, kLast}) {
        INFO("highest " << highest);
        ReceiveWindow window;
        REQUIRE(takes(window, highest));
        CHECK(window.is_new({highest - (kSize - 1)}));
        CHECK_FALSE(window.is_new({highest - kSize}));
        if (highest > kSize) CHECK_FALSE(window.is_new({highest - kSize - 1}));
        CHECK_FALSE(window.is_new({0}));
        CHECK(takes(window, highest - (kSize - 1)));
        CHECK_FALSE(takes(window, highest - (kSize - 1)));
        CHECK_FALSE(window.is_newest({highest - 1}));
    }
}

TEST_CASE("every number of a full window is taken once in any order", "[session][curvecp]") {
    for (const std::uint64_t low : {std::uint64_t{0}, std::uint64_t{5}, kLast - kSize + 1}) {
        ReceiveWindow window;
        REQUIRE(takes(window, low + kSize - 1));
        std::size_t taken = 1;
        for (int round = 0; round < 2; ++round) {
            for (std::uint64_t i = kSize; i-- > 0;) taken += takes(window, low + i) ? 1U : 0U;
        }
        CHECK(taken == kSize);
    }
}

TEST_CASE("a number that moved out of the window does not come back as new", "[session][curvecp]") {
    ReceiveWindow window;
    REQUIRE(takes(window, 100));
    REQUIRE(takes(window, 100 + kSize - 1));
    CHECK_FALSE(takes(window, 100));  // still remembered
    REQUIRE(takes(window, 100 + kSize));
    CHECK_FALSE(takes(window, 100));  // now too old
    CHECK(takes(window, 101));        // the oldest that is left
}

TEST_CASE("after a jump beyond the window nothing old counts, and all in it is new", "[session][curvecp]") {
    for (const std::uint64_t jump :
         {kSize - 1, kSize, kSize + 1, kSize + 64, 2 * kSize, 129 * std::uint64_t{64}, 10 * kSize,
          std::uint64_t{1} << 40, kLast - 10'000}) {
        INFO("a jump by " << jump);
        ReceiveWindow window;
        for (std::uint64_t number = 1; number <= 10'000; ++number) REQUIRE(takes(window, number));
        const std::uint64_t to = 10'000 + jump;
        REQUIRE(takes(window, to));
        std::size_t taken = 0;
        for (std::uint64_t number = to - (kSize - 1); number < to; ++number)
            taken += takes(window, number) ? 1U : 0U;
        CHECK(taken == std::min(jump, kSize) - 1);  // the others had come before
        CHECK_FALSE(takes(window, to - kSize));
    }
}

TEST_CASE("the window is exhausted by 2^64-1 and by nothing else", "[session][curvecp]") {
    ReceiveWindow window;
    CHECK_FALSE(window.exhausted());
    REQUIRE(takes(window, kLast - 1));
    CHECK_FALSE(window.exhausted());
    REQUIRE(takes(window, kLast));
    CHECK(window.exhausted());
    CHECK_FALSE(takes(window, 0));  // numbers do not go round
    CHECK_FALSE(takes(window, 1));
    CHECK(takes(window, kLast - 2));  // what is late still counts
    CHECK(window.exhausted());
}

/// The next number a bad network could bring: mostly near the highest, sometimes at the window's edge,
/// sometimes far on.
std::uint64_t next_number(test::SeededRandom& random, std::uint64_t highest) {
    const auto back = [&](std::uint64_t by) { return highest - std::min(highest, by); };
    const auto on = [&](std::uint64_t by) { return highest + std::min(kLast - highest, by); };
    switch (random.below(20)) {
        case 0: return back(kSize - 3 + random.below(6));
        case 1: return on(kSize - 3 + random.below(6));
        case 2: return back(random.below(3 * kSize));
        case 3: return random.one_in(20) ? on(random.below(20 * kSize)) : on(random.below(200));
        case 4: return random.one_in(500) ? on(random.next() >> random.below(64)) : back(random.below(64));
        case 5: return back(random.below(kSize));
        default: return random.one_in(2) ? on(random.below(4)) : back(random.below(32));
    }
}

TEST_CASE("no number is taken twice, and none is lost that a list would take", "[session][curvecp]") {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        test::SeededRandom random(seed);
        ReceiveWindow window;
        SlowWindow slow;
        constexpr std::array starts = {std::uint64_t{0}, std::uint64_t{1} << 47, kLast - 40'000, kLast - 3};
        std::uint64_t number = starts[seed % starts.size()];
        for (int i = 0; i < 20'000; ++i) {
            INFO("seed " << seed << ", step " << i << ", number " << number << ", highest "
                         << slow.highest());
            const bool newest = window.is_newest({number});
            const std::uint64_t before = slow.highest();
            const bool taken = slow.takes(number);
            REQUIRE(takes(window, number) == taken);
            REQUIRE(newest == (slow.highest() > before || i == 0));
            REQUIRE(window.exhausted() == (slow.highest() == kLast));
            number = next_number(random, slow.highest());
        }
    }
}

}  // namespace
}  // namespace curvegate::session
