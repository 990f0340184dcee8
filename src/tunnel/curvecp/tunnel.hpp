#pragma once

#include "base/time.hpp"
#include "io/asio.hpp"
#include "io/datagram_socket.hpp"
#include "session/curvecp.hpp"
#include "stream/patience.hpp"
#include "tunnel/stream_tunnel.hpp"
#include "tunnel/tunnel_handle.hpp"
#include "wire/curvecp_message.hpp"

#include <initializer_list>
#include <memory>
#include <vector>

namespace curvegate::tunnel::curvecp {

/// How to send to that peer.
[[nodiscard]] stream::Options stream_options(const IpEndpoint& peer, Duration dead_peer,
                                             stream::ChunkSource* chunks);

/// One CurveCP connection, either end: drives its stream by packets and by time, and sends what the stream
/// wants sent. Packets get their numbers and are sealed at the moment they are given to the kernel
/// (PROTOCOL 7.6).
class CurvecpTunnel : public tunnel::StreamTunnel, public std::enable_shared_from_this<CurvecpTunnel> {
  public:
    /// The handle owns it; once released, its timer does, until it has nothing more to say.
    [[nodiscard]] tunnel::TunnelHandle hand_over() {
        return {this, tunnel::ReleaseTunnel{shared_from_this()}};
    }

    [[nodiscard]] stream::Stream& stream() override { return stream_; }
    [[nodiscard]] const stream::Stream& stream() const override { return stream_; }
    [[nodiscard]] asio::io_context& context() override { return context_; }
    void flush() override { pump(); }
    void release() override;
    [[nodiscard]] std::optional<tunnel::End> ended() const override { return ended_; }
    void drop() override { cut(tunnel::End::stopped); }
    /// Ends now, without a word to the peer.
    void cut(tunnel::End why);
    /// After one or more packets were received: acknowledges, sends on, and tells the user.
    void after_batch();
    /// The socket takes packets again.
    void on_writable();

  protected:
    CurvecpTunnel(asio::io_context& context, const stream::Options& options, Duration dead_peer);

    /// How the next message is packed: bytes before it, and the most that it may have.
    struct Envelope {
        std::size_t overhead;
        std::size_t most;
    };
    /// Returns nullopt if no message may be sent now; an event or own_deadline() changes that.
    [[nodiscard]] virtual std::optional<Envelope> envelope() = 0;
    /// `packet` is an envelope's overhead, then the message. Error: session numbers_exhausted.
    [[nodiscard]] virtual Result<> seal(MutableBytes packet) = 0;
    /// Gives the bytes that the socket took, whole packets of `segment` bytes each; fewer than all:
    /// on_writable() will be called.
    [[nodiscard]] virtual std::size_t transmit(Bytes train, std::size_t segment) = 0;
    /// Bytes that may go to where the peer is now; more are allowed by an event or at own_deadline().
    [[nodiscard]] virtual std::size_t allowance() { return io::DatagramSocket::kMaxTrain; }
    /// What the end's own timers want.
    [[nodiscard]] virtual Deadline own_deadline() const = 0;
    virtual void on_own_deadline(Instant at) = 0;
    /// It is over: nothing is sent or received any more. Called once.
    virtual void on_over() = 0;

    /// What was in a box: what is no message at all is ignored, as the packet layer ignores junk. Returns
    /// false if the connection has ended because of it.
    bool deliver(const Result<wire::curvecp::Message>& message, Instant at);
    void pump();
    void arm_timer();
    [[nodiscard]] bool is_over() const noexcept { return over_; }
    [[nodiscard]] static Deadline earliest(std::initializer_list<Deadline> all);

    asio::io_context& context_;
    stream::Stream stream_;

  private:
    struct Train {
        std::vector<Byte> bytes;
        std::size_t segment;
    };
    [[nodiscard]] bool send_train(Instant at);
    void send_or_keep(Bytes train, std::size_t segment);
    void on_timer();
    void settle(Instant at);
    void end(tunnel::End why);
    void tell_end(tunnel::End why);
    [[nodiscard]] Deadline dead_at() const;
    [[nodiscard]] Deadline next_deadline() const;

    stream::Patience patience_;
    io::Timer timer_;
    Deadline armed_;
    std::vector<Train> tail_;  // few; sealed, not taken by the socket: goes first
    std::optional<tunnel::End> ended_;
    bool over_ = false;
    bool pumping_ = false;
    bool held_back_ = false;  // the stream may want to send; the end lets nothing go now
};

}  // namespace curvegate::tunnel::curvecp
