#include "vault/listener.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace curvegate::vault {
namespace {

constexpr int kBacklog = 64;
constexpr int kSocketType = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;

std::optional<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) return std::nullopt;
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

bool bind_to(int socket, const sockaddr_un& address, SocketMode mode) {
    // By the umask and not by a chmod after: there is no moment at which the socket is open to others.
    const mode_t before = ::umask(static_cast<mode_t>(0777U & ~static_cast<unsigned>(mode)));
    const bool bound = ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    const int code = errno;
    ::umask(before);
    errno = code;
    return bound;
}

/// Whether `path` is a socket without anybody behind it.
bool is_stale(const sockaddr_un& address) {
    struct stat info{};
    if (::lstat(address.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
    const os::UniqueFd probe(::socket(AF_UNIX, kSocketType, 0));
    return probe &&
           ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
           errno == ECONNREFUSED;
}

}  // namespace

Result<os::UniqueFd> listen_at(const std::string& path, SocketMode mode) {
    const auto address = address_of(path);
    if (!address) return fail(os::Errc::system, path + ": the path of a socket has 1 to 107 bytes");
    os::UniqueFd socket(::socket(AF_UNIX, kSocketType, 0));
    if (!socket) return os::fail_errno("socket");
    bool bound = bind_to(socket.get(), *address, mode);
    if (!bound && errno == EADDRINUSE) {
        if (!is_stale(*address)) return fail(os::Errc::system, path + " is there already and in use");
        if (::unlink(path.c_str()) != 0) return os::fail_errno("unlink " + path);
        bound = bind_to(socket.get(), *address, mode);
    }
    if (!bound) return os::fail_errno("bind " + path);
    if (::listen(socket.get(), kBacklog) != 0) return os::fail_errno("listen at " + path);
    return socket;
}

}  // namespace curvegate::vault
