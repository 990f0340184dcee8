#pragma once

#include "session/curve_tun.hpp"
#include "tunnel/message_pipe.hpp"

#include <memory>
#include <vector>

namespace curvegate::tunnel::curve_tun {

/// Messages of curve_tun version 1 on a TCP socket (PROTOCOL 5). Owns no buffer while nothing is on its way.
class TcpMessages final : public tunnel::MessagePipe {
  public:
    /// A socket after its handshake; its options are set here.
    TcpMessages(io::Stream stream, session::curve_tun::Session session, Duration dead_peer);
    ~TcpMessages() override;
    TcpMessages(const TcpMessages&) = delete;
    TcpMessages& operator=(const TcpMessages&) = delete;

    [[nodiscard]] std::size_t most() const noexcept override { return session::curve_tun::kMaxMessageSize; }
    [[nodiscard]] std::size_t backlog() const noexcept override { return outgoing_.size(); }
    [[nodiscard]] Result<> send(Bytes message) override;
    void hold() override { held_ = true; }
    void flush() override;
    [[nodiscard]] bool takes_more() const noexcept override { return !over_ && !broken_; }
    [[nodiscard]] bool is_delivered() override;
    [[nodiscard]] bool is_silent(Duration dead_peer) override;
    void start() override { resume(); }
    void resume() override;
    void close() override;

  private:
    void write();
    void wait_writable();
    void wait_readable();
    void on_readable();
    [[nodiscard]] bool deliver();
    void tidy();
    void end(End why);
    void end_later(End why);

    io::Stream stream_;
    session::curve_tun::Session session_;
    std::vector<Byte> outgoing_;        // sealed frames that the kernel did not take yet
    std::unique_ptr<Byte[]> incoming_;  // room for one frame of any length
    std::size_t begin_ = 0;             // what lies in it: [begin_, end_)
    std::size_t end_ = 0;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool held_ = false;
    bool waits_writable_ = false;
    bool waits_readable_ = false;
    bool reading_ = false;
    bool broken_ = false;  // a write met the peer's reset
    bool over_ = false;
};

}  // namespace curvegate::tunnel::curve_tun
