#pragma once

#include "base/bytes.hpp"
#include "base/path.hpp"

#include <cstddef>
#include <functional>

namespace curvegate::io {

/// Datagrams in batches, as the ends of CurveCP connections want them of their sockets: UdpSocket, or a place
/// on a simulated network in a test. One thread.
class DatagramSocket {
  public:
    /// What one call of the kernel takes at most, in bytes and in datagrams.
    static constexpr std::size_t kMaxTrain = 65'000;
    static constexpr std::size_t kMaxSegments = 64;

    DatagramSocket() = default;
    virtual ~DatagramSocket() = default;
    DatagramSocket(const DatagramSocket&) = delete;
    DatagramSocket& operator=(const DatagramSocket&) = delete;

    /// Called for each datagram, empty ones too; `bytes` may be changed in place and are gone when the
    /// handler returns. It may close() this socket, which ends the batch, but not destroy it.
    using Handler = std::function<void(const Path& from, MutableBytes bytes)>;
    /// Reads one batch (at most some hundred datagrams, so that others get their turn). Gives how many
    /// datagrams came; 0: nothing waits.
    virtual std::size_t receive(const Handler& handler) = 0;
    /// Calls `handler` once when something can be read / written, never from within; cancelled by close().
    virtual void wait_readable(std::move_only_function<void()> handler) = 0;
    virtual void wait_writable(std::move_only_function<void()> handler) = 0;

    /// Sends `train`: segments of `segment` bytes each (the last may be shorter), at most kMaxTrain bytes, in
    /// order; an empty train is one empty datagram. Gives how many BYTES were taken (whole segments): fewer
    /// than all means the socket is full: keep the tail, wait_writable(). A datagram that the path cannot
    /// carry counts as taken: it is lost as datagrams are.
    [[nodiscard]] virtual std::size_t send(const Path& to, Bytes train, std::size_t segment) = 0;

    virtual void close() = 0;
};

}  // namespace curvegate::io
