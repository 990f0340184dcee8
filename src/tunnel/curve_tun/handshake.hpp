#pragma once

#include "base/ip.hpp"
#include "handshake/curve_tun/client.hpp"
#include "handshake/curve_tun/server.hpp"
#include "io/asio.hpp"
#include "tunnel/wire.hpp"

#include <functional>
#include <memory>

namespace curvegate::tunnel::curve_tun {

/// A tunnel after its handshake. Nothing was read ahead: messages that came with the vouch are still in the
/// socket.
struct Established {
    io::Stream stream;
    session::curve_tun::Session session;
    crypto::PublicKey peer;
    vault::KeySlot server_key{};  ///< server: of its keys the one that the client knows
};

using EstablishedFn = std::move_only_function<void(Result<Established>)>;

/// Runs the server's machine on a socket that was just accepted; `done` is called exactly once, never from
/// within. On an error the socket is closed, whatever the reason was: the peer sees one and the same close.
std::shared_ptr<HandshakeHandle> start_server_handshake(io::Stream stream,
                                                        const tunnel::HandshakeTools& tools,
                                                        const IpAddress& source,
                                                        tunnel::AuthoriseFn authorise, EstablishedFn done);

/// Runs the client's machine on a connected socket, for one expected server key.
std::shared_ptr<HandshakeHandle> start_client_handshake(io::Stream stream,
                                                        const tunnel::HandshakeTools& tools,
                                                        const crypto::PublicKey& server, Instant deadline,
                                                        EstablishedFn done);

}  // namespace curvegate::tunnel::curve_tun
