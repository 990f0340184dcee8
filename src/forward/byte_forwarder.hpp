#pragma once

#include "forward/forwarding.hpp"
#include "tunnel/byte_tunnel.hpp"

#include <functional>
#include <memory>
#include <optional>

namespace curvegate::forward {

/// Carries bytes between a plain socket and a tunnel, whatever its wire, both ways, until both have ended. It
/// owns no buffer: the plain socket is read straight into the tunnel's memory and written straight out of it,
/// and a side that is behind stops the other. The plain socket has the options of io/socket_options.hpp. The
/// owner holds it until `done`.
class ByteForwarder final : public ForwarderBase, public std::enable_shared_from_this<ByteForwarder> {
  public:
    ByteForwarder(io::Stream plain, std::unique_ptr<tunnel::ByteTunnel> tunnel,
                  const ForwarderLimits& limits);
    void start(DoneFn done) override;
    void stop(Ending why) override;
    void sweep(Instant at) override;
    [[nodiscard]] Traffic traffic() const override { return {summary_.bytes_up, summary_.bytes_down}; }

  private:
    // plain -> tunnel
    void wait_plain();
    void fill_tunnel();
    void on_plain_end();
    // tunnel -> plain
    void on_tunnel_event();
    void empty_tunnel();
    void wait_for_plain();
    void on_incoming_end();
    void on_tunnel_end(tunnel::End end);
    // the end
    void discard();
    void lose_plain(int code);
    void pass_failure_up();
    void finish_if_over();
    void drain_plain(Ending why);
    [[nodiscard]] bool is_drained(Ending why);
    void finish(Ending why);

    [[nodiscard]] bool running() const noexcept { return done_ && !draining_; }

    io::Stream plain_;
    std::unique_ptr<tunnel::ByteTunnel> tunnel_;
    ForwarderLimits limits_;
    DoneFn done_;
    ForwarderSummary summary_{};
    Instant started_;
    Instant active_;
    bool up_closed_ = false;            // the plain side's end has been passed on
    bool down_closed_ = false;          // the peer's end has been passed on
    bool awaits_room_ = false;          // the plain side is not read until the tunnel takes more
    bool awaits_plain_ = false;         // the tunnel is not consumed until the plain side takes more
    std::optional<Ending> plain_lost_;  // the plain side takes no more; what it has sent is read to its end
    bool draining_ = false;             // the plain side gets what was received, then its end or a reset
};

}  // namespace curvegate::forward
