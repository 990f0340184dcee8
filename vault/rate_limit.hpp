#pragma once

#include "base/time.hpp"

#include <algorithm>
#include <chrono>

namespace curvegate::vault {

/// A token bucket on passed-in time: `burst` at once, `per_second` in the long run.
class RateLimit {
  public:
    constexpr RateLimit(double per_second, double burst) noexcept
        : per_second_(per_second), burst_(burst), tokens_(burst) {}

    /// Takes one token if there is one.
    [[nodiscard]] bool allows(Instant now) noexcept {
        if (last_ && now > *last_) {
            const std::chrono::duration<double> passed = now - *last_;
            tokens_ = std::min(burst_, tokens_ + passed.count() * per_second_);
        }
        last_ = now;
        if (tokens_ < 1) return false;
        tokens_ -= 1;
        return true;
    }

  private:
    double per_second_;
    double burst_;
    double tokens_;
    Deadline last_;
};

}  // namespace curvegate::vault
