#include "stream/congestion.hpp"
#include "stream/pacer.hpp"
#include "stream/round_trip.hpp"

#include <catch2/catch.hpp>

#include <cmath>

namespace curvegate::stream {
namespace {

using namespace std::chrono_literals;

const Instant kStart = Instant(1h);
constexpr std::size_t kSegment = Congestion::kSegment;

/// A path of fixed round trip that carries all the window in each.
struct Path {
    Congestion congestion;
    Instant now = kStart;
    std::uint64_t sequence = 0;
    Duration trip = 100ms;

    /// One window goes out and is acknowledged two by two.
    void round(bool used = true) {
        const Instant sent = now;
        now += trip;
        const std::size_t window = congestion.window();
        const std::uint64_t last = sequence + window / kSegment;
        while (sequence < last) {
            sequence = std::min(last, sequence + 2);
            congestion.on_acked({.bytes = 2 * kSegment,
                                 .newest_sent = sent,
                                 .newest = sequence,
                                 .next = last + window / kSegment,
                                 .round_trip = trip,
                                 .window_was_used = used},
                                trip, now);
        }
    }
    void grow_to(std::size_t window) {
        while (congestion.window() < window) round();
    }
    [[nodiscard]] double segments() const {
        return static_cast<double>(congestion.window()) / static_cast<double>(kSegment);
    }
};

TEST_CASE("the window begins with ten segments and doubles each round trip", "[stream]") {
    Path path;
    CHECK(path.congestion.window() == 10 * kSegment);
    CHECK(path.congestion.in_slow_start());
    path.round();
    CHECK(path.congestion.window() == 20 * kSegment);
    path.round();
    CHECK(path.congestion.window() == 40 * kSegment);
}

TEST_CASE("a window that the application does not fill does not grow", "[stream]") {
    Path path;
    for (int i = 0; i < 20; ++i) path.round(false);
    CHECK(path.congestion.window() == 10 * kSegment);
    CHECK(path.congestion.on_lost(path.now, path.now));
    const auto before = path.congestion.window();
    for (int i = 0; i < 100; ++i) path.round(false);
    CHECK(path.congestion.window() == before);
    // Nor does the time count that went by so: growth begins anew, slowly.
    path.round();
    path.round();
    CHECK(path.congestion.window() < before + 4 * kSegment);
}

TEST_CASE("a loss takes three tenths, once for all that was on the way", "[stream]") {
    Path path;
    path.grow_to(100 * kSegment);
    const auto before = path.congestion.window();
    CHECK(path.congestion.on_lost(path.now - 50ms, path.now));
    CHECK(path.congestion.window() == static_cast<std::size_t>(static_cast<double>(before) * 0.7));
    CHECK_FALSE(path.congestion.in_slow_start());
    CHECK_FALSE(path.congestion.on_lost(path.now - 10ms, path.now + 20ms));
    CHECK_FALSE(path.congestion.on_lost(path.now, path.now + 90ms));
    CHECK(path.congestion.on_lost(path.now + 1ms, path.now + 101ms));
    CHECK(path.congestion.window() == static_cast<std::size_t>(static_cast<double>(before) * 0.7 * 0.7));
}

TEST_CASE("what was sent before a loss does not make the window grow", "[stream]") {
    Path path;
    path.grow_to(100 * kSegment);
    CHECK(path.congestion.on_lost(path.now, path.now));
    const auto before = path.congestion.window();
    path.congestion.on_acked({.bytes = 50 * kSegment,
                              .newest_sent = path.now,
                              .newest = 0,
                              .next = 0,
                              .round_trip = 100ms,
                              .window_was_used = true},
                             100ms, path.now + 50ms);
    CHECK(path.congestion.window() == before);
}

TEST_CASE("the window never falls below two segments", "[stream]") {
    Congestion congestion;
    Instant now = kStart;
    for (int i = 0; i < 100; ++i, now += 1s) congestion.on_lost(now, now);
    CHECK(congestion.window() == 2 * kSegment);
}

// RFC 9438 4.2: K = cbrt(W_max * (1 - beta) / C) seconds until the window is again what it was.
TEST_CASE("growth follows the cubic curve", "[stream]") {
    Path path;
    path.trip = 200ms;
    path.grow_to(1'000 * kSegment);
    const double most = path.segments();
    path.congestion.on_lost(path.now, path.now);
    path.now += 1us;
    const Instant lost = path.now;
    const double k = std::cbrt(most * 0.3 / 0.4);
    const auto at = [&](double time) {
        while (std::chrono::duration<double>(path.now - lost).count() < time) path.round();
        return path.segments();
    };
    const auto expected = [&](double time) { return 0.4 * std::pow(time - k, 3) + most; };
    CHECK(at(k / 3) == Approx(expected(k / 3)).epsilon(0.05));
    CHECK(at(k) == Approx(most).epsilon(0.03));
    CHECK(at(k * 1.5) == Approx(expected(k * 1.5)).epsilon(0.05));
}

TEST_CASE("on short paths growth is Reno's", "[stream]") {
    Path path;
    path.trip = 5ms;
    path.grow_to(100 * kSegment);
    path.congestion.on_lost(path.now, path.now);
    path.now += 1us;
    const double before = path.segments();
    for (int i = 0; i < 40; ++i) path.round();
    // 3 * 0.3 / 1.7 of a segment each round trip; the cubic curve would take seconds.
    CHECK(path.segments() - before == Approx(40 * 0.529).epsilon(0.15));
}

TEST_CASE("a second loss below the last maximum gives up more", "[stream]") {
    Path path;
    path.trip = 200ms;
    path.grow_to(1'000 * kSegment);
    path.congestion.on_lost(path.now, path.now);
    path.now += 1us;
    for (int i = 0; i < 5; ++i) path.round();
    const double at_second = path.segments();
    path.congestion.on_lost(path.now, path.now);
    path.now += 1us;
    const double plateau = at_second * 0.85;  // RFC 9438 4.7
    const double k = std::cbrt((plateau - at_second * 0.7) / 0.4);
    const Instant lost = path.now;
    while (std::chrono::duration<double>(path.now - lost).count() < k) path.round();
    CHECK(path.segments() == Approx(plateau).epsilon(0.03));
}

TEST_CASE("slow start ends when round trips grow, before anything is lost", "[stream]") {
    Path path;
    path.grow_to(160 * kSegment);
    const auto before = path.congestion.window();
    path.trip = 120ms;  // more than an eighth: a queue builds up
    path.round();
    CHECK(path.congestion.window() < before * 19 / 10);
    const auto conservative = path.congestion.window();
    path.round();
    CHECK(path.congestion.window() <= conservative * 13 / 10);  // a quarter of the growth
    for (int i = 0; i < 5; ++i) path.round();
    CHECK_FALSE(path.congestion.in_slow_start());
}

TEST_CASE("slow start goes on if the round trips were long by chance", "[stream]") {
    Path path;
    path.grow_to(160 * kSegment);
    path.trip = 120ms;
    path.round();
    path.trip = 100ms;
    path.round();
    path.round();
    const auto before = path.congestion.window();
    path.round();
    CHECK(path.congestion.in_slow_start());
    CHECK(path.congestion.window() >= before * 2);
}

TEST_CASE("persistent congestion leaves two segments and a slow start", "[stream]") {
    Path path;
    path.grow_to(100 * kSegment);
    path.congestion.on_lost(path.now, path.now);
    path.congestion.on_persistent_congestion();
    CHECK(path.congestion.window() == 2 * kSegment);
    CHECK(path.congestion.in_slow_start());
}

TEST_CASE("another path begins with the first window, and old losses do not count", "[stream]") {
    Path path;
    path.grow_to(100 * kSegment);
    path.congestion.on_new_path(path.now);
    CHECK(path.congestion.window() == 10 * kSegment);
    CHECK_FALSE(path.congestion.on_lost(path.now - 1ms, path.now + 1s));
    CHECK(path.congestion.window() == 10 * kSegment);
}

TEST_CASE("the rate is two windows a round trip in slow start, then one and a quarter", "[stream]") {
    Path path;
    CHECK(path.congestion.rate(100ms) == Approx(2 * 10 * 1'088 / 0.1));
    path.congestion.on_lost(path.now, path.now);
    CHECK(path.congestion.rate(100ms) == Approx(1.25 * 7 * 1'088 / 0.1).epsilon(0.001));
    CHECK(path.congestion.rate(0ms) > 0);
}

// ---- round trip ----

TEST_CASE("round trips are smoothed as RFC 9002 5.3 says", "[stream]") {
    RoundTrip trip;
    CHECK_FALSE(trip.known());
    CHECK(trip.probe_timeout() == 305ms);
    trip.take(80ms);
    CHECK(trip.known());
    CHECK(trip.smoothed() == 80ms);
    CHECK(trip.probe_timeout() == 80ms + 160ms + 5ms);
    trip.take(160ms);
    CHECK(trip.smoothed() == 90ms);                     // 7/8 * 80 + 1/8 * 160
    CHECK(trip.probe_timeout() == 90ms + 200ms + 5ms);  // 3/4 * 40 + 1/4 * 80 = 50
    CHECK(trip.loss_delay() == 180ms);                  // 9/8 of the latest
    trip.take(90ms);
    CHECK(trip.loss_delay() == 101'250us);
    for (int i = 0; i < 100; ++i) trip.take(10us);
    CHECK(trip.loss_delay() == 1ms);
    CHECK(trip.probe_timeout() < 7ms);
    trip.take(-5ms);  // a clock that is passed in wrong does no harm
    CHECK(trip.smoothed() > 0ms);
    trip.forget();
    CHECK_FALSE(trip.known());
}

// ---- pacer ----

TEST_CASE("packets go in trains that keep to the rate", "[stream]") {
    Pacer pacer;
    constexpr double kRate = 1e6;
    constexpr double kTrain = 10'000;
    Instant now = kStart;
    std::size_t sent = 0;
    std::size_t wakes = 0;
    std::size_t longest = 0;
    while (now < kStart + 1s) {
        std::size_t train = 0;
        for (; pacer.ready(now, kRate, kTrain); train += 1'000) pacer.spend(1'000);
        longest = std::max(longest, train);
        sent += train;
        ++wakes;
        const auto next = pacer.next(kRate, kTrain);
        REQUIRE(next > now);
        now = next;
    }
    CHECK(sent >= 990'000);
    CHECK(sent <= 1'020'000);
    CHECK(longest <= 11'000);
    CHECK(wakes <= 110);
}

TEST_CASE("a pause earns no more than one train", "[stream]") {
    Pacer pacer;
    std::size_t sent = 0;
    for (; pacer.ready(kStart + 1h, 1e6, 5'000); sent += 1'000) pacer.spend(1'000);
    CHECK(sent == 5'000);
}

}  // namespace
}  // namespace curvegate::stream
