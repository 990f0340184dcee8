#pragma once

#include "daemon/load.hpp"

#include <string>

namespace curvegate::daemon {

/// The parent: opens the listening sockets, starts vault and front, restarts them when they die, reads the
/// configuration again, looks names up and hears the signals. It parses no byte from the network and holds no
/// secret. `file` is the configuration's. Returns the exit status.
int run_parent(std::string file, Loaded loaded);

}  // namespace curvegate::daemon
