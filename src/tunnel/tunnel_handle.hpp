#pragma once

#include "tunnel/stream_tunnel.hpp"

#include <memory>

namespace curvegate::tunnel {

/// Holds a StreamTunnel the way its contract wants it: given up with release(), never deleted. After that the
/// tunnel lives as long as it has work of its own.
struct ReleaseTunnel {
    std::shared_ptr<StreamTunnel> owner;  // may be empty: somebody else owns it
    void operator()(StreamTunnel* tunnel) const noexcept {
        tunnel->on_event = nullptr;
        tunnel->on_end = nullptr;
        tunnel->release();
    }
};
using TunnelHandle = std::unique_ptr<StreamTunnel, ReleaseTunnel>;

}  // namespace curvegate::tunnel
