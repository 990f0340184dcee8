#pragma once

#include "daemon/front_setup.hpp"
#include "daemon/loaded.hpp"
#include "daemon/parent/passed.hpp"

#include <string>

namespace curvegate::daemon::parent {

/// The parent: opens the listening sockets, starts vault and front, restarts them when they die, reads the
/// configuration again, looks names up and hears the signals. It parses no byte from the network and holds no
/// secret. `file` is the configuration's; `passed` came from the service manager; `run_front` is what a
/// process that was forked for the front does. Returns the exit status.
int run(std::string file, Loaded loaded, PassedSockets passed, RunFrontFn run_front);

}  // namespace curvegate::daemon::parent
