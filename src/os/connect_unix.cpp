#include "os/connect_unix.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>

namespace curvegate::os {

std::expected<UniqueFd, int> connect_unix(const std::string& path, int type, std::chrono::seconds patience) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return std::unexpected(ENAMETOOLONG);
    path.copy(address.sun_path, path.size());
    const bool waits = patience.count() > 0;
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK), 0));
    if (!fd) return std::unexpected(errno);
    const timeval limit{patience.count(), 0};  // a connect() to a full queue heeds it, too
    if (waits && ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
        return std::unexpected(errno);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return std::unexpected(errno);
    return fd;
}

}  // namespace curvegate::os
