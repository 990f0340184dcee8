#pragma once

#include "tunnel/datagram_pipe.hpp"
#include "tunnel/message_pipe.hpp"

#include <memory>

namespace curvegate::tunnel {

/// Datagrams over a wire that loses nothing: a message each (PROTOCOL 10.2).
class MessageDatagrams final : public DatagramPipe {
  public:
    /// Bytes that the tunnel did not take yet; over it datagrams are dropped.
    static constexpr std::size_t kMostWaiting = std::size_t{256} * 1024;

    explicit MessageDatagrams(std::unique_ptr<MessagePipe> pipe) : pipe_(std::move(pipe)) {}
    bool send(Bytes datagram) override {
        // What is only held for the rest of its batch does not wait for the peer yet.
        if (pipe_->backlog() > kMostWaiting) pipe_->flush();
        pipe_->hold();
        return pipe_->backlog() <= kMostWaiting && pipe_->send(datagram);
    }
    void flush() override { pipe_->flush(); }
    [[nodiscard]] bool is_silent(Duration dead_peer) override { return pipe_->is_silent(dead_peer); }
    void start() override {
        pipe_->on_message = [this](Bytes message) {
            on_datagram(message);
            return true;
        };
        pipe_->on_end = std::move(on_end);
        pipe_->start();
    }

  private:
    std::unique_ptr<MessagePipe> pipe_;
};

}  // namespace curvegate::tunnel
