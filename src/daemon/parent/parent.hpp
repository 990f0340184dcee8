#pragma once

#include "daemon/load.hpp"
#include "daemon/parent/passed.hpp"

#include <string>

namespace curvegate::daemon {

/// The parent: opens the listening sockets, starts vault and front, restarts them when they die, reads the
/// configuration again, looks names up and hears the signals. It parses no byte from the network and holds no
/// secret. `file` is the configuration's; `passed` came from the service manager. Returns the exit status.
int run_parent(std::string file, Loaded loaded, PassedSockets passed);

}  // namespace curvegate::daemon
