#pragma once

#include "base/result.hpp"
#include "config/config.hpp"
#include "daemon/control_access.hpp"
#include "os/socket.hpp"
#include "os/socket_files.hpp"

#include <optional>
#include <string>
#include <vector>

namespace curvegate::daemon::parent {

/// The sockets of one service's `accept`, unless they are passed (passed.hpp). One a worker: workers share a
/// TCP port, or a UDP port that takes plain datagrams, by SO_REUSEPORT, and a unix socket by copies of its
/// descriptor. A server end's UDP port has two a worker, for sessions and for Hellos: see
/// io::open_udp_endpoint.
[[nodiscard]] Result<std::vector<os::UniqueFd>> open_listeners(const config::Service& service,
                                                               std::size_t workers);

/// Of the socket files that this process made for sections those go that no section accepts at, or not any
/// more.
void remove_all_but_of(const config::Config& config, os::SocketFiles& files);

/// The control socket: a unix stream socket. A file has one group: if two may use it, anybody may connect,
/// and who may speak is asked of the kernel alone, as it is in any case.
[[nodiscard]] Result<os::UniqueFd> open_control_socket(const std::string& path, const ControlAccess& access);
/// Where the counters are served.
[[nodiscard]] Result<os::UniqueFd> open_metrics_socket(const config::Address& address);
/// The number of a group; nothing: there is none of that name.
[[nodiscard]] std::optional<unsigned> group_of(const std::string& name);

}  // namespace curvegate::daemon::parent
