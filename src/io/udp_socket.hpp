#pragma once

#include "base/bytes.hpp"
#include "base/path.hpp"
#include "base/result.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"

#include <functional>
#include <string>

namespace curvegate::io {

enum class Gro : bool { off, on };

/// A UDP socket that moves datagrams in batches: recvmmsg and UDP_GRO in, UDP_SEGMENT or sendmmsg out. One
/// thread; readiness through Asio.
class UdpSocket {
  public:
    /// What one sendmsg with UDP_SEGMENT carries at most.
    static constexpr std::size_t kMaxTrain = 65'000;
    static constexpr std::size_t kMaxSegments = 64;

    /// The longest datagram that a socket with Gro::off takes, in bytes; longer ones are dropped. With
    /// Gro::on all that UDP can carry comes through.
    static constexpr std::size_t kLongestWithoutGro = 2'048;

    /// A bound (or connected) socket, whose buffers in the kernel are made as large as it allows. A socket
    /// that is not connected learns to tell our own address of each datagram. If `fd` is no socket at all,
    /// the new socket is not open and last_error() says why.
    UdpSocket(asio::io_context& context, os::UniqueFd fd, Gro gro);
    ~UdpSocket();
    UdpSocket(const UdpSocket&) = delete;
    UdpSocket& operator=(const UdpSocket&) = delete;

    /// Called for each datagram, empty ones too, trains of the kernel already cut apart; `bytes` may be
    /// changed in place and are gone when the handler returns. It may close() this socket, which ends the
    /// batch, but not destroy it.
    using Handler = std::function<void(const Path& from, MutableBytes bytes)>;
    /// Reads one batch (at most some hundred datagrams, so that others get their turn). Gives how many
    /// datagrams came; 0: nothing waits. Errors of the path that the kernel reports (ECONNREFUSED and its
    /// like) are skipped and kept for last_error(). The buffers belong to the thread, not to the socket.
    std::size_t receive(const Handler& handler);
    /// Calls `handler` once when something can be read / written; cancelled by close().
    void wait_readable(std::move_only_function<void()> handler);
    void wait_writable(std::move_only_function<void()> handler);

    /// Sends `train`: segments of `segment` bytes each (the last may be shorter), at most kMaxTrain bytes, in
    /// order; an empty train is one empty datagram. Gives how many BYTES were taken (whole segments): fewer
    /// than all means the socket is full: keep the tail, wait_writable(). A datagram that the path cannot
    /// carry (EMSGSIZE, unreachable, EPERM, ...) counts as taken: it is lost as datagrams are. Falls back to
    /// sendmmsg for good if the kernel or the device cannot segment (EIO, EOPNOTSUPP), for this call if this
    /// path cannot (EMSGSIZE, EINVAL: kernels say either where its MTU is under a segment).
    [[nodiscard]] std::size_t send(const Path& to, Bytes train, std::size_t segment);

    /// The last error of the path or of the socket; stays until another comes.
    [[nodiscard]] error_code last_error() const noexcept { return last_error_; }
    [[nodiscard]] int native_handle() { return socket_.native_handle(); }
    /// Where the socket is bound.
    [[nodiscard]] IpEndpoint local_endpoint() const;
    [[nodiscard]] bool is_open() const noexcept { return socket_.is_open(); }
    void close();

  private:
    struct Batch;
    struct Destination;
    enum class Sent { yes, full, lost, not_in_segments };

    void set_options();
    [[nodiscard]] std::size_t read_into(Batch& batch);
    [[nodiscard]] std::size_t send_some(Destination& to, Bytes train, std::size_t segment);
    [[nodiscard]] Sent send_once(Destination& to, Bytes train, std::size_t segment);
    [[nodiscard]] std::size_t send_apart(Destination& to, Bytes train, std::size_t segment);
    [[nodiscard]] Sent failed_to_send();

    udp::socket socket_;
    error_code last_error_;
    Gro gro_;
    bool v6_ = false;
    bool connected_ = false;
    bool segments_ = true;
};

}  // namespace curvegate::io
