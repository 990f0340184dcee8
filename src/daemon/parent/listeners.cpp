#include "daemon/parent/listeners.hpp"

#include "io/listen.hpp"
#include "io/look_up.hpp"
#include "log/log.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace curvegate::daemon::parent {
namespace {

constexpr int kBacklog = 4'096;
constexpr mode_t kSocketMode = 0600;

std::string where(const config::Service& service) {
    return "[" + service.name + "] accept = " + service.accept.text();
}

Result<io::ListenPlace> place_of(const config::Service& service) {
    const std::string& host = service.accept.host;
    const auto address = io::literal_address(host == "localhost" ? "127.0.0.1" : host);
    if (!address) return fail(os::Errc::system, where(service) + ": accept takes an address, not a name");
    if (!*address)
        return fail(os::Errc::system,
                    where(service) + ": " + std::string(address->error().what()) + " (ip link lists them)");
    return io::ListenPlace{**address, service.accept.port, where(service), io::Absent::wait};
}

// It may come later, or be a mistake in the file: nobody else can tell.
void tell_if_absent(const config::Service& service, const io::ListenPlace& place) {
    if (io::is_here(place.address)) return;
    log::event(log::Level::warning, "address_absent",
               {{"service", service.name},
                {"address", service.accept.text()},
                {"hint", "no interface has this address now; it is served as soon as one has"}});
}

// A socket file that nobody listens on any more is a leftover of a crash. One of another type that is in use
// says so by another error.
void remove_stale(const sockaddr_un& address) {
    struct stat info{};
    if (::lstat(address.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return;
    // Non-blocking: one whose queue is full is in use, and is not waited for.
    const os::UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return;
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno == ECONNREFUSED) {
        ::unlink(address.sun_path);
    }
}

std::string who_has(const std::string& path) {
    struct stat info{};
    const bool is_socket = ::lstat(path.c_str(), &info) != 0 || S_ISSOCK(info.st_mode);
    if (is_socket) return " (another program has it)";
    return " (what lies there is no socket; move it away, or name another path)";
}

Result<os::UniqueFd> listen_unix(const std::string& path, const std::string& what, mode_t mode,
                                 int type = SOCK_STREAM) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return fail(os::Errc::system,
                    what + ": path is longer than " + std::to_string(sizeof address.sun_path - 1) + " bytes");
    }
    path.copy(address.sun_path, path.size());
    os::UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return os::fail_errno(what);
    remove_stale(address);
    const mode_t before = ::umask(static_cast<mode_t>(~mode & 0777));
    const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    const int code = errno;
    ::umask(before);
    errno = code;
    if (bound != 0) {
        const std::string why = os::fail_errno(what).error().detail();
        return fail(os::Errc::system, why + (code == EADDRINUSE ? who_has(path) : ""));
    }
    if (::listen(fd.get(), kBacklog) != 0) return os::fail_errno(what);
    return fd;
}

// The workers accept from one queue.
Result<std::vector<os::UniqueFd>> listen_unix(const config::Service& service, std::size_t workers) {
    const bool records = service.accept.kind == config::Address::Kind::seqpacket;
    auto fd =
        listen_unix(service.accept.path, where(service), kSocketMode, records ? SOCK_SEQPACKET : SOCK_STREAM);
    if (!fd) return fail(std::move(fd));
    std::vector<os::UniqueFd> out;
    out.push_back(std::move(*fd));
    while (out.size() < workers) {
        os::UniqueFd copy(::fcntl(out.front().get(), F_DUPFD_CLOEXEC, 0));
        if (!copy) return os::fail_errno(where(service));
        out.push_back(std::move(copy));
    }
    return out;
}

}  // namespace

Result<std::vector<os::UniqueFd>> open_listeners(const config::Service& service, std::size_t workers) {
    using Kind = config::Address::Kind;
    if (!service.accept.path.empty()) return listen_unix(service, workers);
    const auto place = place_of(service);
    if (!place) return std::unexpected(place.error());
    tell_if_absent(service, *place);
    if (service.accept.kind == Kind::tcp) return io::listen_tcp(*place, workers);
    const bool tunnel = service.side == config::Side::server;
    return tunnel ? io::open_udp_endpoint(*place, workers) : io::open_udp(*place, workers);
}

void remove_all_but_of(const config::Config& config, os::SocketFiles& files) {
    files.remove_unless([&](const std::string& path) {
        return std::ranges::any_of(config.services, [&](const auto& one) { return one.accept.path == path; });
    });
}

Result<os::UniqueFd> open_control_socket(const std::string& path, const ControlAccess& access) {
    constexpr mode_t kGroupMode = 0660;
    constexpr mode_t kAnybody = 0666;
    const auto group = access.control_group ? access.control_group : access.status_group;
    const bool two = access.status_group && access.status_group != group;
    const mode_t one_group = group ? kGroupMode : kSocketMode;
    const mode_t mode = two ? kAnybody : one_group;
    auto fd = listen_unix(path, path, mode);
    if (fd && group && ::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
        auto failed = os::fail_errno("give " + path + " to its group");
        ::unlink(path.c_str());
        return failed;
    }
    return fd;
}

Result<os::UniqueFd> open_metrics_socket(const config::Address& address) {
    constexpr mode_t kAnybody = 0666;  // who asks gets names and counts; the folder's mode says who may
    const std::string what = "metrics = " + address.text();
    if (address.kind == config::Address::Kind::unix_socket) return listen_unix(address.path, what, kAnybody);
    const auto ip = IpAddress::parse(address.host == "localhost" ? "127.0.0.1" : address.host);
    if (!ip) return fail(os::Errc::system, what + ": not an address");
    auto sockets = io::listen_tcp({*ip, address.port, what}, 1);
    if (!sockets) return fail(std::move(sockets));
    return std::move(sockets->front());
}

std::optional<unsigned> group_of(const std::string& name) {
    if (name.empty()) return std::nullopt;
    const group* found =
        ::getgrnam(name.c_str());  // NOLINT(concurrency-mt-unsafe): the parent has one thread
    return found != nullptr ? std::optional<unsigned>(found->gr_gid) : std::nullopt;
}

}  // namespace curvegate::daemon::parent
