#include "daemon/listeners.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace curvegate::daemon {
namespace {

constexpr int kBacklog = 4'096;
constexpr mode_t kSocketMode = 0600;

std::string where(const config::Service& service) {
    return "[" + service.name + "] accept = " + service.accept.text();
}

Result<os::UniqueFd> listen_on(os::UniqueFd fd, const sockaddr* address, socklen_t size,
                               const std::string& what) {
    if (::bind(fd.get(), address, size) != 0) {
        const std::string hint = errno == EACCES       ? " (a port under 1024 needs CAP_NET_BIND_SERVICE)"
                                 : errno == EADDRINUSE ? " (another program has it)"
                                                       : "";
        return os::fail_errno(what + hint);
    }
    if (::listen(fd.get(), kBacklog) != 0) return os::fail_errno(what);
    return fd;
}

Result<os::UniqueFd> listen_tcp(const config::Service& service, bool share) {
    std::string host = service.accept.host;
    if (host == "localhost") host = "127.0.0.1";
    const auto address = IpAddress::parse(host);
    if (!address) return fail(os::Errc::system, where(service) + ": accept takes an address, not a name");
    const bool v4 = host.find(':') == std::string::npos;
    os::UniqueFd fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return os::fail_errno(where(service));
    const int yes = 1;
    const int no = 0;
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (share) (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (v4) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = htons(service.accept.port);
        std::memcpy(&in.sin_addr, address->bytes.data() + 12, 4);
        return listen_on(std::move(fd), reinterpret_cast<sockaddr*>(&in), sizeof in, where(service));
    }
    (void)::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);  // [::] listens on both families
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(service.accept.port);
    std::memcpy(&in.sin6_addr, address->bytes.data(), 16);
    return listen_on(std::move(fd), reinterpret_cast<sockaddr*>(&in), sizeof in, where(service));
}

// A socket file that nobody listens on any more is a leftover of a crash.
void remove_stale(const sockaddr_un& address) {
    struct stat info{};
    if (::lstat(address.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return;
    const os::UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!probe) return;
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno == ECONNREFUSED) {
        ::unlink(address.sun_path);
    }
}

Result<os::UniqueFd> listen_unix(const config::Service& service) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& path = service.accept.path;
    if (path.size() >= sizeof address.sun_path) {
        return fail(os::Errc::system, where(service) + ": path is longer than " +
                                          std::to_string(sizeof address.sun_path - 1) + " bytes");
    }
    path.copy(address.sun_path, path.size());
    os::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return os::fail_errno(where(service));
    remove_stale(address);
    const mode_t before = ::umask(static_cast<mode_t>(~kSocketMode & 0777));
    auto out =
        listen_on(std::move(fd), reinterpret_cast<sockaddr*>(&address), sizeof address, where(service));
    ::umask(before);
    return out;
}

}  // namespace

Result<std::vector<os::UniqueFd>> open_listeners(const config::Service& service, std::size_t workers) {
    std::vector<os::UniqueFd> out;
    const bool tcp = service.accept.kind == config::Address::Kind::tcp;
    if (tcp && workers > 1) {
        // Without SO_REUSEPORT first: it would let us share a port with somebody else's listener.
        if (auto alone = listen_tcp(service, false); !alone) return fail(std::move(alone));
    }
    for (std::size_t i = 0; i < workers; ++i) {
        if (!tcp && i > 0) {
            os::UniqueFd copy(::fcntl(out.front().get(), F_DUPFD_CLOEXEC, 0));
            if (!copy) return os::fail_errno(where(service));
            out.push_back(std::move(copy));
            continue;
        }
        auto fd = tcp ? listen_tcp(service, workers > 1) : listen_unix(service);
        if (!fd) return fail(std::move(fd));
        out.push_back(std::move(*fd));
    }
    return out;
}

std::size_t raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
    (void)::getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

}  // namespace curvegate::daemon
