#include "os/socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace curvegate::os {

std::unexpected<Error> fail_errno(std::string doing) {
    const int code = errno;
    return fail(Errc::system, std::move(doing) + ": " + std::strerror(code));
}

void UniqueFd::reset(int fd) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

Result<UniqueFd> copy_of(const UniqueFd& fd) {
    if (!fd) return UniqueFd();
    UniqueFd out(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!out) return fail_errno("copy a descriptor");
    return out;
}

Result<std::pair<UniqueFd, UniqueFd>> seqpacket_pair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return fail_errno("socketpair");
    return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

Result<> send_message(int socket, Bytes message, int fd) {
    // sendmsg() does not write through it. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
    iovec part{const_cast<Byte*>(message.data()), message.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (fd >= 0) {
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        cmsghdr* item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(item), &fd, sizeof fd);
    }
    ssize_t sent = 0;
    do sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return fail_errno("send on a local socket");
    return {};
}

Result<std::optional<Received>> receive_message(int socket, MutableBytes into) {
    iovec part{into.data(), into.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    ssize_t size = 0;
    do size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
    if (size < 0 && errno == ECONNRESET) return Received{};
    if (size < 0) return fail_errno("receive on a local socket");
    Received out{static_cast<std::size_t>(size), UniqueFd(), (header.msg_flags & MSG_CTRUNC) != 0};
    for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
        out.fd.reset(fd);
    }
    if ((header.msg_flags & MSG_TRUNC) != 0) return fail(Errc::system, "local message is too long");
    return out;
}

namespace {

bool is_for_now(int code) noexcept {
    return code == EAGAIN || code == EWOULDBLOCK || code == ENOBUFS;
}

/// What recvmmsg and sendmmsg take.
struct Batch {
    explicit Batch(std::size_t most) noexcept : size(static_cast<unsigned>(std::min(most, kMessagesACall))) {}
    void set(std::size_t i, MutableBytes bytes) noexcept {
        parts[i] = {bytes.data(), bytes.size()};
        headers[i].msg_hdr.msg_iov = &parts[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    unsigned size;
    std::array<iovec, kMessagesACall> parts{};
    std::array<mmsghdr, kMessagesACall> headers{};
};

}  // namespace

Result<std::size_t> receive_messages(int socket, std::span<MessageSlot> slots) {
    Batch batch(slots.size());
    for (std::size_t i = 0; i < batch.size; ++i) batch.set(i, slots[i].bytes);
    int count = 0;
    do count = ::recvmmsg(socket, batch.headers.data(), batch.size, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
    while (count < 0 && errno == EINTR);
    if (count < 0 && is_for_now(errno)) return 0;
    if (count < 0 && errno == ECONNRESET) {
        slots[0].size = 0;
        return 1;
    }
    if (count < 0) return fail_errno("receive on a local socket");
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        slots[i].size = batch.headers[i].msg_len;
        slots[i].whole = (batch.headers[i].msg_hdr.msg_flags & MSG_TRUNC) == 0;
    }
    return static_cast<std::size_t>(count);
}

Result<std::size_t> send_messages(int socket, std::span<const MessageSlot> slots) {
    Batch batch(slots.size());
    for (std::size_t i = 0; i < batch.size; ++i) batch.set(i, slots[i].bytes.first(slots[i].size));
    int count = 0;
    do count = ::sendmmsg(socket, batch.headers.data(), batch.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count < 0 && is_for_now(errno)) return 0;
    if (count < 0) return fail_errno("send on a local socket");
    return static_cast<std::size_t>(count);
}

Result<unsigned> peer_uid(int socket) {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return fail_errno("SO_PEERCRED");
    return who.uid;
}

}  // namespace curvegate::os
