#pragma once

#include "base/time.hpp"

/// The time of this program. It stands still until a test moves it: clock.cpp defines io::now().
namespace curvegate::test {

/// A test begins. Gives the time.
Instant start_time();
/// Time only goes forward.
void set_time(Instant now);
/// When the event loop's earliest timer is due, as far as the loop knows; nullopt: none after now. It may
/// have been cancelled since.
[[nodiscard]] Deadline next_timer();

}  // namespace curvegate::test
