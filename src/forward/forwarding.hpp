#pragma once

#include "base/time.hpp"
#include "io/stream_io.hpp"
#include "service/service.hpp"
#include "tunnel/end.hpp"

#include <functional>
#include <optional>
#include <string_view>

/// What the forwarders share, whatever carries the tunnel.
namespace curvegate::forward {

/// How a forwarded connection ended.
enum class Ending {
    orderly,      ///< both directions told their end
    tunnel_cut,   ///< tcp: FIN or RST without an end of stream; udp: the peer told a failure: a truncation
    unheard_end,  ///< tcp with end-of-stream = close: FIN before the server had sent anything
    bad_message,  ///< the peer sent what does not open or is out of order, or acknowledged what never was
    bad_length,   ///< the peer sent a length that no message may have
    after_end,    ///< the peer sent a message after its end of stream
    plain_reset,  ///< the local side reset
    plain_dead,   ///< the local side's machine answers no more
    too_long,     ///< seqpacket: a record of the local side is longer than a message may be
    numbers_used_up,  ///< the last message number was used
    idle,             ///< idle-timeout, or flow-idle
    evicted,          ///< a flow that was used least lately, and another needed its place
    dead_peer,        ///< nothing acknowledged for dead-peer
    no_answer,        ///< udp, client: the server answered no vouch
    cannot_ask,       ///< the same, and our vault or our memory failed when it was asked afresh
    max_session,      ///< max-session
    revoked,          ///< its key or its line of known_hosts is not good any more
    service_gone,     ///< a reload took its section away
    port_closed,      ///< udp: a reload closed the port by which its packets came
    stopped,          ///< our side ended it
};
[[nodiscard]] std::string_view describe(Ending ending);

struct ForwarderLimits {
    Duration idle = service::Limits{}.idle_timeout;
    Duration dead_peer = service::Limits{}.dead_peer;  ///< tcp only: a stream's tunnel has its own
    Deadline max_session;
    Duration drain = service::kDrain;  ///< for what was delivered before a reset of the plain side
};

struct Traffic {
    std::uint64_t bytes_up = 0;    ///< plain to tunnel
    std::uint64_t bytes_down = 0;  ///< tunnel to plain
};

struct ForwarderSummary {
    Ending ending;
    std::uint64_t bytes_up = 0;
    std::uint64_t bytes_down = 0;
    Duration lasted{};
};

/// Carries one forwarded connection until it is over. The owner holds it until `done`.
class ForwarderBase {
  public:
    using DoneFn = std::move_only_function<void(const ForwarderSummary&)>;
    virtual ~ForwarderBase() = default;
    /// `done` is called exactly once, when both sides are closed; never from within start().
    virtual void start(DoneFn done) = 0;
    /// Resets the plain side and closes the tunnel at once; done() is called from within.
    virtual void stop(Ending why) = 0;
    /// Checks the limits of time; the worker calls it every 5 s, or more often if a limit is short.
    virtual void sweep(Instant at) = 0;
    /// What it has carried so far.
    [[nodiscard]] virtual Traffic traffic() const = 0;
};

/// What the end of a tunnel is for the connection that it carried.
[[nodiscard]] Ending ending_of(tunnel::End end) noexcept;
/// Why the plain side is lost, of the errno of a read or write that failed.
[[nodiscard]] Ending loss_of_plain(int code) noexcept;
}  // namespace curvegate::forward
