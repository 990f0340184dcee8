#pragma once

#include "config/config.hpp"
#include "os/socket.hpp"
#include "registry/registry.hpp"

#include <memory>
#include <vector>

namespace curvegate::daemon {

/// What the front gets from the parent when it is born.
struct FrontSetup {
    const config::Config* config;
    std::shared_ptr<const registry::Registry> registry;
    std::size_t workers;
    std::vector<std::vector<os::UniqueFd>> listeners;  ///< [service][worker]
    os::UniqueFd channel;                              ///< to the parent
};

/// The process that talks to the network. Confines itself before its first byte from there: it can open no
/// file and start no program, and holds no long-term secret. Returns the exit status of the process.
int run_front(FrontSetup setup);

}  // namespace curvegate::daemon
