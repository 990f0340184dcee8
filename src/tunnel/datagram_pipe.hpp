#pragma once

#include "base/bytes.hpp"
#include "base/time.hpp"
#include "tunnel/end.hpp"

#include <functional>

namespace curvegate::tunnel {

/// A connected tunnel that carries datagrams, each whole or not at all. What the peer does not take in time
/// is dropped: memory does not grow. One thread; destroying it ends the tunnel.
class DatagramPipe {
  public:
    virtual ~DatagramPipe() = default;
    /// Sends one, empty ones too; returns false if it was dropped. It goes out with flush() at the latest:
    /// call that after each batch.
    virtual bool send(Bytes datagram) = 0;
    virtual void flush() = 0;
    /// Does the peer leave bytes unacknowledged, and has been silent for `dead_peer`? Always false where the
    /// wire finds that out by itself and ends.
    [[nodiscard]] virtual bool is_silent(Duration dead_peer) = 0;

    /// Datagrams come from here on: set the handlers before. They may be called from within.
    virtual void start() = 0;
    /// `datagram` is gone when the handler returns.
    std::function<void(Bytes datagram)> on_datagram;
    /// The tunnel ended by itself; called once, after the last on_datagram. The handler may destroy this.
    std::function<void(End)> on_end;
};

}  // namespace curvegate::tunnel
