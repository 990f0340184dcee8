#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "net/asio.hpp"
#include "net/cancellation.hpp"
#include "net/handshake.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace curvegate::net {

enum class DialErrc {
    name_unknown = 1,  ///< the host has no address, or the resolver cannot say now; the detail has the host
    refused,           ///< no address took the connection; the detail has the last one and its reason
    timeout,           ///< connect-timeout
    no_pin,            ///< known_hosts holds no usable key for the peer: named before anything is dialled
    no_cookie,  ///< udp: no answer to any Hello; a wrong key, a wrong port and a lost network look alike
    wrong_key,  ///< version 1 cannot tell these apart: wrong key, or not a curve_tun server
    no_target,  ///< several targets, and none answers; the detail has each and its reason
};
[[nodiscard]] constexpr std::string_view layer_name(DialErrc) {
    return "dial";
}
[[nodiscard]] constexpr std::string_view describe(DialErrc code) {
    switch (code) {
        case DialErrc::name_unknown: return "name does not resolve";
        case DialErrc::refused: return "cannot connect";
        case DialErrc::timeout: return "no connection in time";
        case DialErrc::no_pin:
            return "known_hosts has no valid key for this peer (curvegate peers add NAME KEY)";
        case DialErrc::no_cookie:
            return "no answer: wrong key for this peer, no CurveCP server there, or no way to it";
        case DialErrc::wrong_key: return "wrong key for this peer, or not a curve_tun server";
        case DialErrc::no_target: return "no target answers";
    }
    return "unknown";
}

/// Where to connect: a TCP host (literal or name) and port, or a unix socket.
struct Target {
    enum class UnixSocket { stream, seqpacket };
    std::string host;
    std::uint16_t port = 0;
    std::string unix_path;  ///< if not empty, this and nothing else
    UnixSocket unix_kind = UnixSocket::stream;
    [[nodiscard]] std::string text() const;
};

/// Turns names into addresses, off the event loop. Literal addresses never come here.
class Resolver {
  public:
    using Handler = std::move_only_function<void(std::vector<IpAddress>)>;
    virtual ~Resolver() = default;
    /// `handler` runs on `context`, once; no address: the name does not resolve now.
    virtual void resolve(asio::io_context& context, const std::string& host, Handler handler) = 0;
};

/// Resolves and connects, address by address, until `deadline`; a unix socket whose queue is full is asked
/// again. `done` is called once, never from within. Cancelled, it closes what it has opened, and tells `done`
/// soon.
/// Errors: name_unknown, refused, timeout; handshake stopped: it was cancelled.
using DialedFn = std::move_only_function<void(Result<Stream>)>;
void dial(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
          DialedFn done, const CancellationPtr& cancellation = nullptr);
/// Tells the `done` of a dial that was cancelled, once, not from within; then it is empty.
template <class Done>
void tell_stopped(asio::io_context& context, Done& done) {
    asio::post(context, [told = std::exchange(done, nullptr)]() mutable {
        told(std::unexpected(Error(handshake::Errc::stopped)));
    });
}

/// What is known of a tunnel's server.
struct TunnelTarget {
    Target address;
    std::string peer;                     ///< its name in known_hosts, for messages
    std::vector<crypto::PublicKey> keys;  ///< in the order to try; each try is a connection of its own
};
/// Dials and shakes hands. Errors: those of dial(), no_pin, wrong_key, handshake vault_unavailable and
/// vault_timeout, no_secret_memory.
void dial_tunnel(asio::io_context& context, Resolver& resolver, const HandshakeTools& tools,
                 TunnelTarget target, Instant deadline, EstablishedFn done,
                 CancellationPtr cancellation = nullptr);

/// Small segments at once, and a probe of a silent peer so that it counts as dead after `dead_peer`.
void set_tunnel_options(int socket, Duration dead_peer);
/// Small segments at once; a probe of a silent machine, as above; an urgent byte stays where it is in the
/// stream; and from here on whatever closes the socket resets the connection, the death of this process too,
/// so that a cut is never taken for an end. An orderly end calls allow_orderly_close().
void set_plain_options(int socket, Duration dead_peer);
void allow_orderly_close(int socket);
/// Whatever closes the socket from here on resets the connection.
void reset_when_closed(int socket);

}  // namespace curvegate::net
