#pragma once

#include "base/path.hpp"
#include "guard/admission.hpp"
#include "guard/counters.hpp"
#include "io/cancellation.hpp"
#include "io/dial.hpp"
#include "os/socket.hpp"
#include "service/service.hpp"
#include "service/wire.hpp"
#include "tunnel/tools.hpp"
#include "tunnel/tunnel.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What a wire is for those who serve: whoever writes a new one begins here, and with tunnel.hpp.
namespace curvegate::tunnel {

class Scratch;

/// What a worker lends to its tunnels; all of it outlives them.
struct Environment {
    asio::io_context* context;
    io::Resolver* resolver;  ///< clients
    HandshakeTools tools;
    Scratch* scratch;                                   ///< of tunnels that carry bytes
    std::shared_ptr<guard::Admission> admission;        ///< servers
    std::shared_ptr<guard::Counters> counters;          ///< servers
    io::AddressForm addresses = io::AddressForm::full;  ///< in which clients' addresses are shown
};

// ---- the client end ----

/// A tunnel that is wanted.
struct Opening {
    io::Target address;
    std::string peer;                     ///< its name in known_hosts, for messages
    std::vector<crypto::PublicKey> keys;  ///< any of which it may prove, in the order to try
    service::WireOptions options;
    Duration dead_peer = service::Limits{}.dead_peer;
    Instant deadline;  ///< of the name, the connection and the handshake together
    /// Where the server says its first word only after the tunnel stands: when that must be there. nullopt:
    /// at the deadline.
    std::optional<Instant> confirm_by;
};
using OpenedFn = std::move_only_function<void(Result<std::unique_ptr<Tunnel>>)>;

/// Opens tunnels to servers, for one worker. Whether a tunnel is a connection of its own, or a part of one
/// that is there already, is the wire's business.
class Opener {
  public:
    virtual ~Opener() = default;
    /// Calls `done` once, never from within. Errors: io::DialErrc no_pin (there are no keys), wrong_key,
    /// no_cookie, timeout and name_unknown, those of io::find_addresses(), handshake vault_unavailable,
    /// vault_timeout and no_secret_memory; stopped after a cancellation, which leaves nothing open.
    virtual void open(Opening opening, OpenedFn done, const io::CancellationPtr& cancellation) = 0;
};

// ---- the server end ----

/// A client that shakes hands, as the owner of a server end sees it: what the wire asks, and tells.
class Guest {
  public:
    virtual ~Guest() = default;
    /// May this key use the service of that name? The name is empty if the wire has none, or none that can
    /// be read. Returns nullopt if it may, and otherwise the reason for the log.
    [[nodiscard]] virtual std::optional<std::string> authorise(const crypto::PublicKey& client,
                                                               std::string_view service) = 0;
    /// The same client shows itself at another address: is it still welcome there?
    [[nodiscard]] virtual bool may_come_from(const IpAddress& source) = 0;
    [[nodiscard]] virtual Duration dead_peer() const = 0;
    [[nodiscard]] virtual const service::WireOptions& options() const = 0;
    /// The client was authorised, and its tunnel stands.
    virtual void established(std::unique_ptr<Tunnel> tunnel) = 0;
    /// It does not get in.
    virtual void refused(const Error& why) = 0;
};

/// A handshake under way; destroying the handle does not end it, stop() does.
class HandshakeHandle {
  public:
    virtual ~HandshakeHandle() = default;
    virtual void stop() = 0;
};

/// One worker's part of a server's UDP port.
class Endpoint {
  public:
    virtual ~Endpoint() = default;
    virtual void start() = 0;
    /// For those who come from now on; connections that stand keep theirs.
    virtual void set_options(const service::WireOptions& options) = 0;
    /// No new connections; those that stand go on.
    virtual void stop_accepting() = 0;
    /// Ends all connections, those too that only wait for their last acknowledgment. Call once, before this
    /// goes while its worker runs on.
    virtual void close() = 0;
};
/// Called for each client whose source has proven itself, before any public-key work.
using MakeGuest = std::function<std::shared_ptr<Guest>(const Path& from)>;

// ---- both ----

/// A wire over one of its transports. There is one object of each, and a service points to its own.
struct Wire {
    std::unique_ptr<Opener> (*make_opener)(const Environment& lent);
    /// Server over TCP: shakes hands on a connection that was just accepted and tells `guest` what came of
    /// it, never from within. `place` is its place among the unfinished handshakes: succeed() it when the
    /// hands are shaken. A wire over UDP has none.
    std::weak_ptr<HandshakeHandle> (*shake_hands)(const Environment& lent, io::Stream stream,
                                                  const IpAddress& source, guard::Admission::Ticket place,
                                                  std::shared_ptr<Guest> guest) = nullptr;
    /// Server over UDP: two sockets bound to one port, of which the kernel gives Hellos to `hellos`
    /// (io::open_udp_endpoint). A wire over TCP has none.
    std::unique_ptr<Endpoint> (*make_endpoint)(const Environment& lent, os::UniqueFd sessions,
                                               os::UniqueFd hellos, const service::WireOptions& options,
                                               MakeGuest make_guest) = nullptr;

    [[nodiscard]] service::Transport transport() const noexcept {
        return make_endpoint != nullptr ? service::Transport::udp : service::Transport::tcp;
    }
};

}  // namespace curvegate::tunnel
