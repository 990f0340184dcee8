#pragma once

#include "config/config.hpp"
#include "daemon/control_access.hpp"
#include "daemon/doors.hpp"
#include "os/socket.hpp"
#include "registry/registry.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace curvegate::daemon {

/// What the front gets from the parent when it is born. What comes later comes by the channel (channel.hpp).
struct FrontSetup {
    std::shared_ptr<const config::Config> config;
    std::shared_ptr<const registry::Registry> registry;
    std::vector<crypto::PublicKey> revoked;  ///< since the daemon's start, whatever the registry says
    std::size_t workers;
    std::uint32_t generation;  ///< of the configuration
    DoorSockets sockets;
    os::UniqueFd channel;  ///< to the parent
    os::UniqueFd control;  ///< listens; none: there is no control socket
    ControlAccess control_access;
    os::UniqueFd metrics;  ///< the same
    os::UniqueFd audit;    ///< of parent::open_audit(); none: nothing is written down
};

/// The life of the front in the process that was forked for it: front::run. The parent gets it from main, so
/// that it knows nothing of the front's code. Returns the exit status of the process.
using RunFrontFn = int (*)(FrontSetup setup);

}  // namespace curvegate::daemon
