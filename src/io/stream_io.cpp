#include "io/stream_io.hpp"

#include "io/clock.hpp"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <memory>

namespace curvegate::io {
namespace {

constexpr Duration kDrainPoll = std::chrono::milliseconds(20);

bool has_unsent(Stream& socket) noexcept {
    int count = 0;
    return ::ioctl(socket.native_handle(), SIOCOUTQ, &count) == 0 && count > 0;
}

std::optional<std::size_t> taken(ssize_t sent) noexcept {
    if (would_block(sent)) return 0;
    if (sent < 0) return std::nullopt;
    return static_cast<std::size_t>(sent);
}

struct Drain : std::enable_shared_from_this<Drain> {
    Drain(const Stream::executor_type& executor, Instant at, std::function<bool()> holds,
          std::function<void()> then)
        : deadline(at), drained(std::move(holds)), done(std::move(then)), timer(executor) {}

    void look() {
        if (drained() || now() >= deadline) return done();
        timer.expires_after(kDrainPoll);
        timer.async_wait([self = shared_from_this()](error_code error) {
            if (!error) self->look();
        });
    }

    Instant deadline;
    std::function<bool()> drained;
    std::function<void()> done;
    io::Timer timer;
};

}  // namespace

bool would_block(ssize_t result) noexcept {
    return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

std::optional<std::size_t> send_some(Stream& to, Bytes bytes) noexcept {
    return taken(::send(to.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
}

std::optional<std::size_t> send_some(Stream& to, std::span<iovec> parts) noexcept {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    return taken(::sendmsg(to.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

// Keepalive does not run while data waits for its acknowledgment; a peer whose application does not read
// still acknowledges the probes of its closed window.
bool is_silent(Stream& tunnel, Duration dead_peer) noexcept {
    if (!has_unsent(tunnel)) return false;
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(tunnel.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
    return std::chrono::milliseconds(info.tcpi_last_ack_recv) >= dead_peer;
}

bool is_delivered(Stream& plain) noexcept {
    return !has_unsent(plain);
}

void when_drained(const Stream::executor_type& executor, Duration limit, std::function<bool()> drained,
                  std::function<void()> done) {
    std::make_shared<Drain>(executor, now() + limit, std::move(drained), std::move(done))->look();
}

}  // namespace curvegate::io
