#include "virtual/clock.hpp"

#include "io/clock.hpp"

#include <algorithm>

namespace curvegate::test {
namespace {

constexpr Instant kBegin = Instant(std::chrono::hours(1'000));
Instant current = kBegin;
Instant due = kBegin;

}  // namespace

Instant start_time() {
    return current = due = kBegin;
}

void set_time(Instant now) {
    current = std::max(current, now);
}

Deadline next_timer() {
    return due > current ? Deadline(due) : std::nullopt;
}

}  // namespace curvegate::test

namespace curvegate::io {

Instant now() noexcept {
    return test::current;
}

// Asked each time that the loop has looked at its timers or got an earlier one. Without any sleep, poll()
// finds what is due each time it is called.
Duration sleep_for(Duration wait) noexcept {
    test::due = test::current + wait;
    return Duration::zero();
}

}  // namespace curvegate::io
