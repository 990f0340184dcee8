#pragma once

#include "base/result.hpp"
#include "config/config.hpp"
#include "os/socket.hpp"

#include <vector>

namespace curvegate::daemon {

/// The listening sockets of one service, one a worker: workers share a TCP port by SO_REUSEPORT, and a unix
/// socket by copies of its descriptor.
[[nodiscard]] Result<std::vector<os::UniqueFd>> open_listeners(const config::Service& service,
                                                               std::size_t workers);

/// Raises the descriptor limit to the hard limit; gives the effective one.
[[nodiscard]] std::size_t raise_descriptor_limit();

}  // namespace curvegate::daemon
