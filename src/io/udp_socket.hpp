#pragma once

#include "base/result.hpp"
#include "io/asio.hpp"
#include "io/datagram_socket.hpp"
#include "os/socket.hpp"

#include <functional>
#include <string>

namespace curvegate::io {

enum class Gro : bool { off, on };

/// A UDP socket that moves datagrams in batches: recvmmsg and UDP_GRO in, UDP_SEGMENT or sendmmsg out. One
/// thread; readiness through Asio.
class UdpSocket final : public DatagramSocket {
  public:
    /// The longest datagram that a socket with Gro::off takes, in bytes; longer ones are dropped. With
    /// Gro::on all that UDP can carry comes through.
    static constexpr std::size_t kLongestWithoutGro = 2'048;

    /// A bound (or connected) socket, whose buffers in the kernel are made as large as it allows. A socket
    /// that is not connected learns to tell our own address of each datagram. If `fd` is no socket at all,
    /// the new socket is not open and last_error() says why.
    UdpSocket(asio::io_context& context, os::UniqueFd fd, Gro gro);
    ~UdpSocket() override;
    UdpSocket(const UdpSocket&) = delete;
    UdpSocket& operator=(const UdpSocket&) = delete;

    /// Trains of the kernel are cut apart. Errors of the path that the kernel reports (ECONNREFUSED and its
    /// like) are skipped and kept for last_error(). The buffers belong to the thread, not to the socket.
    std::size_t receive(const Handler& handler) override;
    void wait_readable(std::move_only_function<void()> handler) override;
    void wait_writable(std::move_only_function<void()> handler) override;

    /// What the path cannot carry is EMSGSIZE, unreachable, EPERM and their like. Falls back to sendmmsg for
    /// good if the kernel or the device cannot segment (EIO, EOPNOTSUPP), for this call if this path cannot
    /// (EMSGSIZE, EINVAL: kernels say either where its MTU is under a segment).
    [[nodiscard]] std::size_t send(const Path& to, Bytes train, std::size_t segment) override;

    /// The last error of the path or of the socket; stays until another comes.
    [[nodiscard]] error_code last_error() const noexcept { return last_error_; }
    [[nodiscard]] int native_handle() { return socket_.native_handle(); }
    /// Where the socket is bound.
    [[nodiscard]] IpEndpoint local_endpoint() const;
    [[nodiscard]] bool is_open() const noexcept { return socket_.is_open(); }
    void close() override;

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
