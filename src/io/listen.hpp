#pragma once

#include "base/scoped_ip.hpp"
#include "os/socket.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace curvegate::io {

/// What to do where no interface has the address (yet).
enum class Absent {
    refuse,
    wait,  ///< listen on it all the same: connections come as soon as an interface has it
};

/// Where to listen, and what to call it in an error.
struct ListenPlace {
    ScopedIp address;        ///< "::" listens on both families
    std::uint16_t port = 0;  ///< 0: the kernel chooses one
    std::string what;        ///< e.g. "[web] accept = 0.0.0.0:4433"
    Absent absent = Absent::refuse;
};

/// Does an interface of this machine have the address now?
[[nodiscard]] bool is_here(const ScopedIp& address);

/// A non-blocking, close-on-exec listening TCP socket on a port of its own. Error: os system, with a hint
/// where the reason is a common one.
[[nodiscard]] Result<os::UniqueFd> listen_tcp(const ListenPlace& place);
/// One a worker; the kernel shares the connections out between them by SO_REUSEPORT. Nobody else may have the
/// port, not even if it would share.
[[nodiscard]] Result<std::vector<os::UniqueFd>> listen_tcp(const ListenPlace& place, std::size_t workers);

/// Non-blocking, close-on-exec UDP sockets on one address, one for each worker: what one peer sends (address
/// and port) comes to the same worker, as long as all the sockets are open.
[[nodiscard]] Result<std::vector<os::UniqueFd>> open_udp(const ListenPlace& place, std::size_t workers);

/// The UDP sockets of a CurveCP endpoint, 2 * workers of them in one SO_REUSEPORT group: [0, workers) carry
/// sessions, [workers, 2 * workers) Hellos, so that a flood of Hellos fills no queue that a session needs. A
/// BPF program chooses by what the packet says, never by where it came from: a client whose address changes
/// stays with its worker.
///
/// The program sees a UDP packet from the first byte of its payload. Bytes 4..7 are "5XlH": a Hello (PROTOCOL
/// 7). Bytes 40..43 begin the client's short-term key C'; a secret multiplier makes a number under `workers`
/// of them, the same for all packets of a connection: index h for its Initiates and Messages, workers + h for
/// its Hellos. A packet that is too short for both goes to index 0, which drops it as no packet at all.
///
/// Order matters: closing one of the sockets (in all processes that have it) would move the last one to its
/// index. Close all of them, or none. Errors as of listen_tcp.
[[nodiscard]] Result<std::vector<os::UniqueFd>> open_udp_endpoint(const ListenPlace& place,
                                                                  std::size_t workers);

/// A non-blocking, close-on-exec UDP socket that talks with one peer only. Errors: dial refused, own_lack;
/// the detail has the reason.
[[nodiscard]] Result<os::UniqueFd> connect_udp(const ScopedIp& address, std::uint16_t port);

/// The port that a TCP or UDP socket is bound to; 0: to none.
[[nodiscard]] std::uint16_t port_of(int fd);

}  // namespace curvegate::io
