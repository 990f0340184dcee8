#pragma once

#include "io/asio.hpp"
#include "stream/stream.hpp"
#include "tunnel/end.hpp"
#include "tunnel/tunnel.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

namespace curvegate::tunnel {

/// A connected session over UDP as its user sees it, whatever its packets: a stream and a way to say that
/// something was done with it. The user holds it by a TunnelHandle; one thread.
class StreamTunnel : public Remains {
  public:
    [[nodiscard]] virtual stream::Stream& stream() = 0;
    [[nodiscard]] virtual const stream::Stream& stream() const = 0;
    /// Call after the stream was written to, consumed or finished: what may go out goes out.
    virtual void flush() = 0;
    /// The user is done with it: the tunnel keeps itself alive as long as it must answer the peer (until
    /// everything written is acknowledged or the peer is dead, then TIME-WAIT), then frees itself. on_event
    /// and on_end are not called any more. If the stream has not been finished, it is aborted. Nothing that
    /// comes is kept, and who has nothing of the user's left to deliver is not patient.
    virtual void release() = 0;
    [[nodiscard]] virtual asio::io_context& context() = 0;
    /// It has ended, perhaps before on_end was there to be called.
    [[nodiscard]] virtual std::optional<End> ended() const { return std::nullopt; }

    [[nodiscard]] bool has_ended() const final { return ended().has_value(); }
    [[nodiscard]] bool end_is_told() const final { return stream().outgoing_ended(); }
    [[nodiscard]] bool owes_bytes() const final { return stream().owes_bytes(); }

    /// Something came, or room to write was made, or a direction ended: look at stream(). Never called from
    /// within a call of the user.
    std::function<void()> on_event;
    /// The tunnel is gone and takes nothing more; what is readable() may still be consumed. Once; never
    /// called from within a call of the user.
    std::function<void(End)> on_end;
    /// After release(), once: the peer has everything and has told its own end; or no byte of the user's is
    /// owed and the peer has said nothing for a moment; or the peer was given up.
    std::function<void()> on_delivered;
    /// What must outlive it: the pool of its key, an endpoint, the place that it takes among the sessions.
    /// Destroyed after everything else of it.
    std::shared_ptr<const void> keep_alive;
};

}  // namespace curvegate::tunnel
