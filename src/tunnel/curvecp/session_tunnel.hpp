#pragma once

#include "tunnel/curvecp/bytes.hpp"
#include "tunnel/curvecp/messages.hpp"
#include "tunnel/tunnel.hpp"
#include "tunnel/tunnel_handle.hpp"

namespace curvegate::tunnel::curvecp {

/// A CurveCP session that stands: its stream carries bytes (PROTOCOL 9) or messages (PROTOCOL 10.1).
class SessionTunnel final : public Tunnel {
  public:
    SessionTunnel(TunnelHandle session, const crypto::PublicKey& peer, vault::KeySlot server_key)
        : Tunnel(peer, server_key), session_(std::move(session)) {}

    std::unique_ptr<ByteTunnel> bytes() override {
        return std::make_unique<StreamBytes>(std::move(session_));
    }
    std::unique_ptr<MessagePipe> messages() override {
        return std::make_unique<StreamMessages>(std::move(session_));
    }
    std::weak_ptr<Remains> outlive(std::shared_ptr<const void> keep,
                                   std::function<void()> delivered) override {
        session_->keep_alive = std::move(keep);
        session_->on_delivered = std::move(delivered);
        return session_.get_deleter().owner;
    }

  private:
    TunnelHandle session_;
};

}  // namespace curvegate::tunnel::curvecp
