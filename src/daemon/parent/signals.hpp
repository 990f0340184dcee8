#pragma once

#include "os/socket.hpp"

namespace curvegate::daemon::parent {

/// The first thing that the daemon does: HUP, USR1 and USR2 would end a process that has not taken them yet,
/// and now they wait until it has. SIGPIPE and SIGXFSZ are ignored: a reader that is gone and a limit on the
/// size of files cost lines, not the daemon.
void hold_signals();

/// From now on signals are read from the descriptor (signalfd), TERM, INT and CHLD too. Those that were held
/// come first. Error: os system.
[[nodiscard]] Result<os::UniqueFd> take_signals();

}  // namespace curvegate::daemon::parent
