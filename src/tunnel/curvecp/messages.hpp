#pragma once

#include "tunnel/message_pipe.hpp"
#include "tunnel/tunnel_handle.hpp"
#include "wire/message_cutter.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace curvegate::tunnel::curvecp {

/// Messages in the stream of a CurveCP session (PROTOCOL 10.1).
class StreamMessages final : public tunnel::MessagePipe {
  public:
    static constexpr std::size_t kMost = 65'503;  ///< as over tcp

    explicit StreamMessages(tunnel::TunnelHandle tunnel);
    ~StreamMessages() override;
    StreamMessages(const StreamMessages&) = delete;
    StreamMessages& operator=(const StreamMessages&) = delete;

    [[nodiscard]] std::size_t most() const noexcept override { return kMost; }
    [[nodiscard]] std::size_t backlog() const noexcept override { return backlog_.size(); }
    [[nodiscard]] Result<> send(Bytes message) override;
    void hold() override { held_ = true; }
    void flush() override;
    [[nodiscard]] bool takes_more() const noexcept override { return !over_ && !tunnel_ended_; }
    [[nodiscard]] bool is_delivered() override { return backlog_.empty(); }
    [[nodiscard]] bool is_silent(Duration) override { return false; }
    void start() override { resume(); }
    void resume() override;
    void close() override;

  private:
    // out
    [[nodiscard]] std::size_t write_some(Bytes bytes);
    void write_backlog();
    // in
    void read();
    [[nodiscard]] bool take(Bytes bytes);
    [[nodiscard]] bool deliver(Bytes message);
    // the end
    void on_event();
    void on_tunnel_end(tunnel::End why);
    void end(End why);
    void give_up();

    [[nodiscard]] stream::Stream& stream() const { return tunnel_->stream(); }

    tunnel::TunnelHandle tunnel_;
    std::vector<Byte> backlog_;  // framed messages that the stream did not take yet
    wire::MessageCutter cutter_{kMost};
    std::optional<tunnel::End> tunnel_ended_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool held_ = false;
    bool reading_ = false;
    bool delivering_ = false;  // the handler has a message that may lie in the stream
    bool over_ = false;
};

}  // namespace curvegate::tunnel::curvecp
