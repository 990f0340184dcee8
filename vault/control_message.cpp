#include "vault/control_message.hpp"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace curvegate::vault {
namespace {

constexpr std::size_t kMostDescriptors = 8;

struct alignas(cmsghdr) Room {
    std::array<Byte, CMSG_SPACE(sizeof(int) * kMostDescriptors)> bytes{};
};

/// All of them, so that none stays open by accident.
std::vector<os::UniqueFd> take_descriptors(msghdr& header) {
    std::vector<os::UniqueFd> out;
    for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
            out.emplace_back(fd);
        }
    }
    return out;
}

}  // namespace

Result<std::optional<MessageWithDescriptors>> receive_with_descriptors(int socket, MutableBytes into,
                                                                       std::size_t most) {
    iovec part{into.data(), into.size()};
    Room room;
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = room.bytes.data();
    header.msg_controllen = room.bytes.size();
    ssize_t size = 0;
    do size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
    if (size < 0 && errno == ECONNRESET) return MessageWithDescriptors{};
    if (size < 0) return os::fail_errno("receive on the control socket");
    MessageWithDescriptors out{static_cast<std::size_t>(size), take_descriptors(header)};
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || out.descriptors.size() > most)
        return fail(os::Errc::system, "a message that is too long or brings too many descriptors");
    return out;
}

Result<> send_with_descriptors(int socket, Bytes message, std::span<const int> descriptors) {
    if (descriptors.size() > kMostDescriptors) return fail(os::Errc::system, "too many descriptors");
    // sendmsg() does not write through it. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
    iovec part{const_cast<Byte*>(message.data()), message.size()};
    Room room;
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!descriptors.empty()) {
        header.msg_control = room.bytes.data();
        header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(item), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t sent = 0;
    do sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return os::fail_errno("send on the control socket");
    return {};
}

}  // namespace curvegate::vault
