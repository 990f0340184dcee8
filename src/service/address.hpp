#pragma once

#include "service/service.hpp"
#include "service/wire.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace curvegate::service {

/// Where something listens or is reached. `host` is a literal address or a name (resolved when dialling).
struct Address {
    enum class Kind {
        tcp,          ///< tunnel: a wire over TCP; plain: a stream
        unix_socket,  ///< plain only: a stream
        udp,          ///< tunnel: a wire over UDP; plain: datagrams
        seqpacket,    ///< plain only: a unix socket whose records are messages
        none,         ///< plain side of a client end: nobody listens; for `curvegate connect` alone
    };
    Kind kind = Kind::tcp;
    std::optional<Wire> wire = std::nullopt;  ///< of an address on the tunnel's side; the plain side has none
    std::string host;
    std::uint16_t port = 0;
    std::string path;
    /// Of `accept`: the name of sockets that the service manager passes; then there is neither host nor path,
    /// and `tcp` means any stream. Empty if the address is of another kind.
    std::string passed;
    /// As it is written in the file. Tunnel: "curve_tun:[::]:4433", "curvecp:server.example:4433",
    /// "curve_tun:systemd:name". Plain: "127.0.0.1:80", "[::1]:80", "unix:/path", "udp:127.0.0.1:53",
    /// "seqpacket:/path", "systemd:name", "udp:systemd:name", "none".
    [[nodiscard]] std::string text() const;
    friend bool operator==(const Address&, const Address&) = default;
};

/// What an address on the plain side carries.
[[nodiscard]] PlainSide plain_side(const Address& plain) noexcept;

}  // namespace curvegate::service
