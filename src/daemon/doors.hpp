#pragma once

#include "config/config.hpp"
#include "os/socket.hpp"

#include <map>
#include <string>
#include <vector>

namespace curvegate::daemon {

/// Where services listen: one service each, but for the server ends that share a UDP port.
struct DoorPlan {
    std::string key;                    ///< by which it is the same door after a reload
    std::vector<std::size_t> services;  ///< their places in the configuration
};
[[nodiscard]] std::vector<DoorPlan> doors_of(const config::Config& config);
/// Of the door of a service, whose `accept` is not none.
[[nodiscard]] std::string door_key(const config::Service& service);

/// The sockets of each door: one for each worker; of a server's UDP port another one each, for Hellos.
using DoorSockets = std::map<std::string, std::vector<os::UniqueFd>>;

/// Copies of all of them. Error: os system; no descriptor is left, and no door is left out silently.
[[nodiscard]] Result<DoorSockets> copies_of(const DoorSockets& sockets);

}  // namespace curvegate::daemon
