#pragma once

#include "config/config.hpp"
#include "daemon/doors.hpp"
#include "daemon/front/control.hpp"
#include "os/socket.hpp"
#include "registry/registry.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace curvegate::daemon {

/// What the front gets from the parent when it is born.
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
    os::UniqueFd audit;    ///< of open_audit(); none: nothing is written down
};

/// The process that talks to the network. Confines itself before its first byte from there: it can open no
/// file and start no program, and holds no long-term secret. Returns the exit status of the process.
int run_front(FrontSetup setup);

}  // namespace curvegate::daemon
