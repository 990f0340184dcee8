#pragma once

#include "daemon/front_setup.hpp"

namespace curvegate::daemon::front {

/// The process that talks to the network. Confines itself before its first byte from there: it can open no
/// file and start no program, and holds no long-term secret. Returns the exit status of the process.
int run(FrontSetup setup);

}  // namespace curvegate::daemon::front
