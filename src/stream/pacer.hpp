#pragma once

#include "base/time.hpp"

#include <algorithm>
#include <cstdint>

namespace curvegate::stream {

/// Spreads packets over time: trains of at most `train` bytes, which together keep to a rate.
class Pacer {
  public:
    /// `rate` in bytes a second, `train` in bytes. True: a packet may go.
    [[nodiscard]] bool ready(Instant now, double rate, double train) noexcept {
        refill(now, rate, train);
        // Used up, it waits for a whole train: one wake-up for many packets.
        if (resting_ && credit_ + 1 < train) return false;
        resting_ = false;
        return true;
    }
    void spend(std::size_t bytes) noexcept {
        credit_ -= static_cast<double>(bytes);
        if (credit_ <= 0) resting_ = true;
    }
    /// When the next train may go.
    [[nodiscard]] Instant next(double rate, double train) const noexcept {
        const double seconds = std::max(0.0, train - credit_) / rate;
        return last_ + Duration(static_cast<Duration::rep>(std::min(seconds, 60.0) * 1e9) + 1);
    }

  private:
    void refill(Instant now, double rate, double train) noexcept {
        const double seconds = std::chrono::duration<double>(now - last_).count();
        credit_ = std::min(train, credit_ + rate * seconds);
        last_ = now;
    }

    Instant last_;
    double credit_ = 0;
    bool resting_ = false;
};

}  // namespace curvegate::stream
