#pragma once

#include "config/config.hpp"
#include "registry/registry.hpp"

#include <memory>

namespace curvegate::daemon {

/// The parent: opens the listening sockets, starts vault and front, restarts them when they die, looks names
/// up and hears the signals. It parses no byte from the network and holds no secret. Returns the exit status.
int run_parent(const config::Config& config, std::shared_ptr<const registry::Registry> registry);

}  // namespace curvegate::daemon
