#pragma once

#include "forward/forwarding.hpp"
#include "tunnel/tunnel_handle.hpp"

#include <functional>
#include <memory>

namespace curvegate::forward {

/// Carries bytes between a plain socket and the stream of a CurveCP session (PROTOCOL 9), both ways, until
/// both have ended. It owns no buffer: the plain socket is read straight into the stream and written straight
/// out of it, and a side that is behind stops the other. The plain socket has the options of
/// net/socket_options.hpp. The owner holds it until `done`.
class StreamForwarder final : public ForwarderBase, public std::enable_shared_from_this<StreamForwarder> {
  public:
    StreamForwarder(io::Stream plain, tunnel::TunnelHandle tunnel, const ForwarderLimits& limits);
    void start(DoneFn done) override;
    void stop(Ending why) override;
    /// Checks idle and age; the worker calls it every 5 s, or more often if a limit is short. A dead peer is
    /// the tunnel's to find.
    void sweep(Instant at) override;
    [[nodiscard]] Traffic traffic() const override { return {summary_.bytes_up, summary_.bytes_down}; }

  private:
    // plain -> tunnel
    void wait_plain();
    void fill_stream();
    void on_plain_end();
    // tunnel -> plain
    void on_tunnel_event();
    void empty_stream();
    void on_incoming_end();
    void on_tunnel_end(tunnel::TunnelEnd end);
    // the end
    void flush();
    void discard();
    void lose_plain(int code);
    void pass_failure_up();
    void finish_if_over();
    void abort_tunnel();
    void drain_plain(Ending why);
    void finish(Ending why);

    [[nodiscard]] stream::Stream& stream() const { return tunnel_->stream(); }
    [[nodiscard]] bool running() const noexcept { return done_ && !draining_; }

    io::Stream plain_;
    tunnel::TunnelHandle tunnel_;
    ForwarderLimits limits_;
    DoneFn done_;
    ForwarderSummary summary_{};
    Instant started_;
    Instant active_;
    bool up_closed_ = false;            // the plain side's end has been passed on
    bool down_closed_ = false;          // the peer's end has been passed on
    bool awaits_room_ = false;          // the plain side is not read until the stream takes more
    bool awaits_plain_ = false;         // the stream is not consumed until the plain side takes more
    bool tunnel_ended_ = false;         // on_end() came
    std::optional<Ending> plain_lost_;  // the plain side takes no more; what it has sent is read to its end
    bool draining_ = false;             // the plain side gets what was received, then a reset
};

}  // namespace curvegate::forward
