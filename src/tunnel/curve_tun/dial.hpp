#pragma once

#include "io/dial.hpp"
#include "tunnel/curve_tun/handshake.hpp"

#include <string>
#include <vector>

namespace curvegate::tunnel::curve_tun {

/// What is known of a tunnel's server.
struct TunnelTarget {
    io::Target address;
    std::string peer;                     ///< its name in known_hosts, for messages
    std::vector<crypto::PublicKey> keys;  ///< in the order to try; each try is a connection of its own
};
/// Dials and shakes hands; an address that does is where the next dial begins. Errors: those of dial(),
/// no_pin, wrong_key, handshake vault_unavailable and vault_timeout, no_secret_memory.
void dial_tunnel(asio::io_context& context, io::Resolver& resolver, const tunnel::HandshakeTools& tools,
                 TunnelTarget target, Instant deadline, EstablishedFn done,
                 io::CancellationPtr cancellation = nullptr);

}  // namespace curvegate::tunnel::curve_tun
