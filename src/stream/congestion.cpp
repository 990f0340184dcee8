#include "stream/congestion.hpp"

#include <algorithm>
#include <cmath>

namespace curvegate::stream {
namespace {

// RFC 9438 4.1, 4.6
constexpr double kC = 0.4;
constexpr double kBeta = 0.7;
constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);
// RFC 9406 4.3
constexpr auto kLeastThreshold = std::chrono::milliseconds(4);
constexpr auto kMostThreshold = std::chrono::milliseconds(16);
constexpr int kRoundTripDivisor = 8;
constexpr unsigned kSamples = 8;
constexpr double kConservativeDivisor = 4;
constexpr unsigned kConservativeRounds = 5;

constexpr double kMostWindow = 1e9;  // far beyond what a stream buffers
constexpr double kSegmentSize = Congestion::kSegment;

}  // namespace

double Congestion::rate(Duration round_trip) const noexcept {
    const double seconds = std::max(1e-6, std::chrono::duration<double>(round_trip).count());
    return (in_slow_start() ? 2.0 : 1.25) * window_ / seconds;
}

void Congestion::on_acked(const Acked& acked, Duration round_trip, Instant now) {
    if (in_slow_start()) watch_round_trips(acked);
    if (recovering_since_ && acked.newest_sent <= *recovering_since_) return;
    if (!acked.window_was_used) {
        // RFC 9438 5.8: time in which the window was not the limit does not count.
        epoch_.reset();
        return;
    }
    if (in_slow_start()) {
        grow_in_slow_start(acked);
    } else {
        grow_cubic(static_cast<double>(acked.bytes) / kSegmentSize, round_trip, now);
    }
    window_ = std::min(window_, kMostWindow);
}

void Congestion::grow_in_slow_start(const Acked& acked) {
    const auto bytes = static_cast<double>(acked.bytes);
    window_ += conservative_ ? bytes / kConservativeDivisor : bytes;
}

void Congestion::begin_round(std::uint64_t next) {
    round_.end = next;
    round_.least_before = round_.least;
    round_.least.reset();
    round_.samples = 0;
}

void Congestion::watch_round_trips(const Acked& acked) {
    if (acked.newest >= round_.end) {
        begin_round(acked.next);
        if (conservative_ && ++conservative_rounds_ >= kConservativeRounds) {
            threshold_ = window_;
            conservative_.reset();
            return;
        }
    }
    if (!acked.round_trip) return;
    round_.least = round_.least ? std::min(*round_.least, *acked.round_trip) : *acked.round_trip;
    if (++round_.samples < kSamples || !round_.least_before) return;
    if (conservative_) {
        if (*round_.least < *conservative_) conservative_.reset();  // the delay was a spike
        return;
    }
    const Duration threshold =
        std::clamp<Duration>(*round_.least_before / kRoundTripDivisor, kLeastThreshold, kMostThreshold);
    if (*round_.least >= *round_.least_before + threshold) {
        conservative_ = round_.least;
        conservative_rounds_ = 0;
    }
}

void Congestion::begin_epoch(Instant now) {
    epoch_ = now;
    const double window = window_ / kSegmentSize;
    if (window >= most_) {
        most_ = window;
        k_ = 0;
    } else {
        k_ = std::cbrt((most_ - window) / kC);
    }
    estimate_ = window;
}

void Congestion::grow_cubic(double segments, Duration round_trip, Instant now) {
    if (!epoch_) begin_epoch(now);
    const double window = window_ / kSegmentSize;
    const auto cubic = [&](double seconds) { return kC * std::pow(seconds - k_, 3) + most_; };
    const double elapsed = std::chrono::duration<double>(now - *epoch_).count();
    const double ahead = std::chrono::duration<double>(round_trip).count();
    estimate_ += (estimate_ < prior_ ? kAlpha : 1.0) * segments / window;
    double next = 0;
    if (cubic(elapsed) < estimate_) {
        next = std::max(window, estimate_);  // Reno-friendly (RFC 9438 4.3)
    } else {
        const double target = std::clamp(cubic(elapsed + ahead), window, 1.5 * window);
        next = window + (target - window) / window * segments;
    }
    window_ = next * kSegmentSize;
}

bool Congestion::on_lost(Instant sent, Instant now) {
    if (recovering_since_ && sent <= *recovering_since_) return false;
    recovering_since_ = now;
    const double window = window_ / kSegmentSize;
    prior_ = window;
    most_ = window < most_ ? window * (1 + kBeta) / 2 : window;  // fast convergence (RFC 9438 4.7)
    window_ = std::max<double>(kLeastWindow, window_ * kBeta);
    threshold_ = window_;
    conservative_.reset();
    epoch_.reset();
    return true;
}

void Congestion::on_persistent_congestion() {
    window_ = kLeastWindow;
    recovering_since_.reset();
    epoch_.reset();
    round_ = {};
}

void Congestion::on_new_path(Instant now) {
    *this = Congestion();
    recovering_since_ = now;
}

}  // namespace curvegate::stream
