#pragma once

#include "guard/counters.hpp"

namespace curvegate::daemon::front {

/// Logs what has been counted since the start of the front: one line, `status`.
void log_status(const guard::Counters& counters);

}  // namespace curvegate::daemon::front
