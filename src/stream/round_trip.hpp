#pragma once

#include "base/time.hpp"

#include <algorithm>

namespace curvegate::stream {

/// Round trip time and what follows from it (RFC 9002 5 and 6).
class RoundTrip {
  public:
    void take(Duration sample) noexcept {
        latest_ = std::max(sample, Duration(1));
        if (!known_) {
            known_ = true;
            smoothed_ = latest_;
            variation_ = latest_ / 2;
            return;
        }
        const Duration off = latest_ > smoothed_ ? latest_ - smoothed_ : smoothed_ - latest_;
        variation_ = (3 * variation_ + off) / 4;
        smoothed_ = (7 * smoothed_ + latest_) / 8;
    }
    void forget() noexcept { *this = RoundTrip(); }

    [[nodiscard]] bool known() const noexcept { return known_; }
    [[nodiscard]] Duration smoothed() const noexcept { return smoothed_; }
    /// After which time without an answer a probe goes out.
    [[nodiscard]] Duration probe_timeout() const noexcept {
        return smoothed_ + std::max(4 * variation_, kGranularity) + kMostAckDelay;
    }
    /// How much later than it a transmission may arrive before it counts as lost.
    [[nodiscard]] Duration loss_delay() const noexcept {
        const Duration longest = std::max(smoothed_, latest_);
        return std::max(longest + longest / 8, kGranularity);
    }

  private:
    static constexpr Duration kGranularity = std::chrono::milliseconds(1);
    static constexpr Duration kMostAckDelay = std::chrono::milliseconds(5);  // our own (PROTOCOL 9.1)
    // RFC 9002 takes 333 ms; a handshake has gone over this path before.
    static constexpr Duration kInitial = std::chrono::milliseconds(100);

    Duration latest_ = kInitial;
    Duration smoothed_ = kInitial;
    Duration variation_ = kInitial / 2;
    bool known_ = false;
};

}  // namespace curvegate::stream
