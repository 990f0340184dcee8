#pragma once

#include "base/time.hpp"

/// What time it is: asked by the actors, passed in everywhere below them.
namespace curvegate::io {

/// Steady time. This and sleep_for() stand alone in clock.cpp: a program that defines both itself has virtual
/// time, for all that waits by a Timer too (tests/virtual).
[[nodiscard]] Instant now() noexcept;
/// How long the event loop sleeps if its next timer is due in `wait`: so long.
[[nodiscard]] Duration sleep_for(Duration wait) noexcept;

[[nodiscard]] inline WallTime wall_now() noexcept {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

/// now() as a clock of <chrono>.
struct Clock {
    using duration = Duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = Instant;
    static constexpr bool is_steady = true;
    [[nodiscard]] static Instant now() noexcept { return io::now(); }
};

}  // namespace curvegate::io
