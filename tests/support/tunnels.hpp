#pragma once

#include "support/bytes.hpp"
#include "tunnel/tunnel_handle.hpp"

#include <boost/asio/post.hpp>

#include <array>
#include <memory>

/// Two tunnels with real streams, joined in memory: what one gives to the network the other receives.
namespace curvegate::test {

class MemoryTunnel final : public tunnel::StreamTunnel, public std::enable_shared_from_this<MemoryTunnel> {
  public:
    MemoryTunnel(boost::asio::io_context& context, const stream::Options& options)
        : context_(context), timer_(context), stream_(options, std::chrono::steady_clock::now()) {}

    [[nodiscard]] stream::Stream& stream() override { return stream_; }
    [[nodiscard]] const stream::Stream& stream() const override { return stream_; }
    [[nodiscard]] boost::asio::io_context& context() override { return context_; }
    void flush() override {
        ++flushed;
        if (std::exchange(scheduled_, true)) return;
        boost::asio::post(context_, [weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->pump();
        });
    }
    void release() override {
        ++released;
        flush();
    }

    void drop() override { cut = true; }
    /// Ends it as a dead peer, a limit or a defect would.
    void end(tunnel::End why) {
        cut = true;
        if (on_end) on_end(why);
    }
    /// Calls on_event as a packet does that brought nothing.
    void poke() {
        if (on_event) on_event();
    }

    MemoryTunnel* peer = nullptr;
    bool cut = false;  ///< the network between them is gone
    int released = 0;
    int flushed = 0;  ///< times that its user, or it itself, asked it to send

  private:
    void pump() {
        scheduled_ = false;
        const auto now = std::chrono::steady_clock::now();
        std::array<Byte, wire::curvecp::kMaxMessage> message{};
        for (std::size_t size = stream_.next_message(message, now); size > 0;
             size = stream_.next_message(message, now)) {
            if (!cut && peer != nullptr && !peer->cut) peer->receive(Bytes(message).first(size));
        }
        const auto deadline = stream_.next_deadline();
        if (!deadline || cut) return;
        timer_.expires_at(*deadline);
        timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
            const auto self = weak.lock();
            if (!error && self) self->flush();
        });
    }
    void receive(Bytes message) {
        if (const auto parsed = wire::curvecp::parse_message(message))
            (void)stream_.receive(*parsed, std::chrono::steady_clock::now());
        poke();
        flush();
    }

    boost::asio::io_context& context_;
    boost::asio::steady_timer timer_;
    stream::Stream stream_;
    bool scheduled_ = false;
};

struct TunnelPair {
    explicit TunnelPair(boost::asio::io_context& context, const stream::Options& options = {})
        : near(std::make_shared<MemoryTunnel>(context, options)),
          far(std::make_shared<MemoryTunnel>(context, options)) {
        near->peer = far.get();
        far->peer = near.get();
    }
    ~TunnelPair() {
        near->peer = nullptr;
        far->peer = nullptr;
    }
    TunnelPair(const TunnelPair&) = delete;
    TunnelPair& operator=(const TunnelPair&) = delete;

    std::shared_ptr<MemoryTunnel> near;
    std::shared_ptr<MemoryTunnel> far;
    [[nodiscard]] tunnel::TunnelHandle near_end() const { return tunnel::TunnelHandle(near.get()); }
    [[nodiscard]] tunnel::TunnelHandle far_end() const { return tunnel::TunnelHandle(far.get()); }
};

}  // namespace curvegate::test
