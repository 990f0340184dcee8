#pragma once

#include "daemon/loaded.hpp"

#include <string>
#include <vector>

namespace curvegate::daemon::parent {

/// What a reload changes, line by line, for people: services, peers, and what takes a restart.
[[nodiscard]] std::vector<std::string> difference(const Loaded& before, const Loaded& after);

}  // namespace curvegate::daemon::parent
