#pragma once

#include "forward/forwarding.hpp"
#include "session/curve_tun.hpp"

#include <sys/uio.h>

#include <array>
#include <functional>
#include <memory>
#include <vector>

namespace curvegate::forward {

/// A worker's scratch memory: every read lands here and nothing stays in it between two events, so a
/// connection without traffic owns no buffer.
class Scratch {
  public:
    /// Messages that one read of the plain side fills at most; with headers they are sent by one write.
    static constexpr std::size_t kMaxBurst = 4;
    static constexpr std::size_t kFrame =
        session::curve_tun::kFrameOverhead + session::curve_tun::kMaxMessageSize;
    Scratch() : bytes_(kMaxBurst * kFrame) {}
    [[nodiscard]] MutableBytes bytes() noexcept { return bytes_; }

  private:
    std::vector<Byte> bytes_;
};

/// Carries bytes between a plain socket and a tunnel, both ways, until both have ended. One read, one
/// sealing in place and one write an event; what the other side does not take at once is kept, and the
/// reading side waits until it is gone. The sockets have the options of net/socket_options.hpp.
class Forwarder final : public ForwarderBase, public std::enable_shared_from_this<Forwarder> {
  public:
    Forwarder(io::Stream plain, io::Stream tunnel, session::curve_tun::Session session,
              const ForwarderLimits& limits, Scratch& scratch);
    void start(DoneFn done) override;
    void stop(Ending why) override;
    void sweep(Instant at) override;
    [[nodiscard]] Traffic traffic() const override { return {summary_.bytes_up, summary_.bytes_down}; }

  private:
    struct Pending {
        std::vector<Byte> bytes;
        std::size_t sent = 0;
        [[nodiscard]] bool empty() const noexcept { return sent == bytes.size(); }
        [[nodiscard]] Bytes rest() const noexcept { return Bytes(bytes).subspan(sent); }
        void clear() noexcept { *this = {}; }
    };
    /// What was opened and goes to the plain side in one write; it lies in the scratch memory.
    struct Payloads {
        std::array<iovec, 64> parts;
        std::size_t count = 0;
        void add(MutableBytes payload) noexcept { parts[count++] = {payload.data(), payload.size()}; }
    };
    enum class Direction : std::uint8_t {
        open,    ///< bytes may come
        ending,  ///< the end has been read; it goes out after what is pending
        closed,  ///< the end has been passed on
    };

    // plain -> tunnel
    void wait_plain();
    void on_plain_readable();
    void seal_and_send(std::size_t size, std::size_t burst);
    void send_end_of_stream();
    void to_tunnel(Bytes frames);
    void flush_up();
    void on_tunnel_broken();
    // tunnel -> plain
    void wait_tunnel();
    void on_tunnel_readable();
    [[nodiscard]] bool open_frames(MutableBytes bytes);
    [[nodiscard]] std::optional<Ending> open_packet(MutableBytes packet, Payloads& payloads);
    [[nodiscard]] bool deliver(Payloads& payloads);
    [[nodiscard]] Ending meaning_of_fin() const;
    void on_tunnel_end();
    void flush_down();
    void pass_end_down();
    // the end
    void lose_plain(int code);
    [[nodiscard]] bool has_left();
    void finish_if_over();
    void drain_plain(Ending why);
    [[nodiscard]] bool is_drained(Ending why);
    void finish(Ending why, bool reset);

    io::Stream plain_;
    io::Stream tunnel_;
    session::curve_tun::Session session_;
    ForwarderLimits limits_;
    Scratch& scratch_;
    DoneFn done_;
    Pending up_;                 // sealed frames that the tunnel did not take yet
    Pending down_;               // payload that the plain side did not take yet
    std::vector<Byte> partial_;  // the beginning of a frame
    ForwarderSummary summary_{};
    Instant started_;
    Instant active_;
    Direction up_state_ = Direction::open;
    Direction down_state_ = Direction::open;
    std::uint8_t burst_ = 1;  // messages to read at once; grows while both sides keep up
    bool up_lost_ = false;    // the tunnel takes no more; what it still holds for us is read to its end
    std::optional<Ending> plain_lost_;  // the plain side takes no more; what it has sent is read to its end
    bool draining_ = false;  // the tunnel is gone; the plain side gets what was opened, then a reset
};

}  // namespace curvegate::forward
