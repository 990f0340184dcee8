#pragma once

#include <chrono>
#include <optional>

namespace curvegate {

/// Steady time, as a value that is passed in: the core never asks what time it is, and no clock step
/// of the machine reaches it.
using Instant = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using Deadline = std::optional<Instant>;

/// The calendar (for `valid-until=` and log lines only).
using WallTime = std::chrono::sys_seconds;

}  // namespace curvegate
