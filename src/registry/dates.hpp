#pragma once

#include "base/time.hpp"

#include <string>

namespace curvegate::registry {

/// The DATE that parse_valid_until (known_hosts.hpp) reads back as `until`: YYYY-MM-DD for the last day of
/// validity where a day ends there, else RFC 3339 in UTC.
[[nodiscard]] std::string format_valid_until(WallTime until);

}  // namespace curvegate::registry
