#pragma once

#include "io/dial.hpp"
#include "tunnel/curvecp/client_tunnel.hpp"

#include <optional>

namespace curvegate::tunnel::curvecp {

/// What is known of a CurveCP server.
struct StreamTarget {
    io::Target address;
    std::string peer;                     ///< its name in known_hosts, for messages
    std::vector<crypto::PublicKey> keys;  ///< in the order to try
    wire::curvecp::Extensions extensions;
    wire::curvecp::ServerName name;  ///< of the service
    Duration dead_peer = std::chrono::seconds(60);
    /// When the server's first Message must be there; nullopt: at the deadline of the dial.
    std::optional<Instant> confirm_by = std::nullopt;
};

struct DialedStream {
    tunnel::TunnelHandle tunnel;
    std::weak_ptr<ClientTunnel> client;  ///< the same, to end it when the handle has been given back
    crypto::PublicKey peer;
};
using DialedStreamFn = std::move_only_function<void(Result<DialedStream>)>;

/// Resolves, says Hello, and is done when a Cookie has come and the vouch is made: messages may go then. What
/// the server thinks of it shows later: a refusal is silence. A wrong key is silence too, so several keys and
/// addresses share the time; the address that answered is where the next dial begins. Errors: no_pin,
/// no_cookie, timeout, refused (no socket could be made), own_lack, those of find_addresses(), stopped,
/// handshake vault_unavailable, vault_timeout, no_secret_memory.
void dial_stream(asio::io_context& context, io::Resolver& resolver, const tunnel::HandshakeTools& tools,
                 StreamTarget target, Instant deadline, DialedStreamFn done,
                 const io::CancellationPtr& cancellation = nullptr);

}  // namespace curvegate::tunnel::curvecp
