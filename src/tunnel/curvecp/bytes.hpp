#pragma once

#include "tunnel/byte_tunnel.hpp"
#include "tunnel/tunnel_handle.hpp"

#include <memory>

namespace curvegate::tunnel::curvecp {

/// The bytes of a CurveCP session's stream (PROTOCOL 9), which owns all buffers. Destroying this releases the
/// tunnel, which lives on until the peer has everything.
class StreamBytes final : public ByteTunnel {
  public:
    explicit StreamBytes(TunnelHandle tunnel) : tunnel_(std::move(tunnel)) {}
    ~StreamBytes() override { *alive_ = false; }
    StreamBytes(const StreamBytes&) = delete;
    StreamBytes& operator=(const StreamBytes&) = delete;

    void start() override;
    [[nodiscard]] std::span<iovec> prepare() override;
    void commit(std::size_t size) override { stream().commit(size); }
    void flush() override;
    void finish() override { stream().finish(); }
    void fail_after_all() override { stream().fail_after_all(); }
    void abort() override;
    [[nodiscard]] bool end_is_told() const override { return stream().outgoing_ended(); }
    [[nodiscard]] bool is_delivered() override { return end_is_told(); }
    [[nodiscard]] std::span<iovec> readable() override;
    void consume(std::size_t size) override { stream().consume(size); }
    [[nodiscard]] Incoming incoming() const override;
    [[nodiscard]] bool is_complete() const override;
    [[nodiscard]] bool is_silent(Duration) override { return false; }

  private:
    [[nodiscard]] stream::Stream& stream() const { return tunnel_->stream(); }
    void tell_event();
    void tell_end(End why);

    TunnelHandle tunnel_;
    iovec gap_{};
    iovec come_{};
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool over_ = false;      // nothing more is sent
    bool silenced_ = false;  // by abort(): on_end is not called any more
};

}  // namespace curvegate::tunnel::curvecp
