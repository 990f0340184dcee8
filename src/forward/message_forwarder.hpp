#pragma once

#include "forward/forwarding.hpp"
#include "tunnel/message_pipe.hpp"
#include "tunnel/scratch.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace curvegate::forward {

/// Carries records between a unix socket of the kind SOCK_SEQPACKET and a tunnel, both ways, until both have
/// ended (PROTOCOL 10.3): a record is a message, none is cut, joined, reordered or dropped, and a side that
/// is behind stops the other. An empty message is the end of its direction. Both ends of a service use it.
class MessageForwarder final : public ForwarderBase, public std::enable_shared_from_this<MessageForwarder> {
  public:
    /// `plain` is connected to the application. `scratch` outlives
    /// it.
    MessageForwarder(io::Stream plain, std::unique_ptr<tunnel::MessagePipe> pipe,
                     const ForwarderLimits& limits, tunnel::Scratch& scratch);
    void start(DoneFn done) override;
    void stop(Ending why) override;
    void sweep(Instant at) override;
    [[nodiscard]] Traffic traffic() const override { return {summary_.bytes_up, summary_.bytes_down}; }

    /// Bytes that may wait for the tunnel before the application's next record is read.
    static constexpr std::size_t kMostWaiting = std::size_t{128} * 1024;

  private:
    enum class Direction : std::uint8_t {
        open,    ///< records may come
        ending,  ///< the end has been read; it goes out after what is pending
        closed,  ///< the end has been passed on
    };

    // plain -> tunnel
    void wait_plain();
    void on_plain_readable();
    [[nodiscard]] bool take_record();
    void send_end();
    void on_drained();
    void on_tunnel_broken();
    // tunnel -> plain
    [[nodiscard]] bool on_message(Bytes message);
    [[nodiscard]] bool deliver(Bytes record);
    void on_plain_writable();
    void on_tunnel_end(tunnel::End end);
    // the end
    void lose_plain(int code);
    [[nodiscard]] bool has_left();
    [[nodiscard]] bool running() const noexcept { return done_ && !draining_; }
    void finish_if_over();
    void finish_soon();
    void drain_plain(Ending why);
    void finish(Ending why);

    io::Stream plain_;
    std::unique_ptr<tunnel::MessagePipe> pipe_;
    ForwarderLimits limits_;
    tunnel::Scratch& scratch_;
    DoneFn done_;
    std::vector<Byte> pending_;  // a record that the application's socket did not take yet; none is empty
    ForwarderSummary summary_{};
    Instant started_;
    Instant active_;
    Direction up_ = Direction::open;
    Direction down_ = Direction::open;
    bool up_lost_ = false;  // the tunnel takes no more; what it still holds for us is read to its end
    std::optional<Ending> plain_lost_;  // the application takes no more; what it has sent is read to its end
    bool draining_ = false;             // the tunnel is over; the application gets what came, then a close
};

}  // namespace curvegate::forward
