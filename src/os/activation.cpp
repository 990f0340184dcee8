#include "os/activation.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <optional>

namespace curvegate::os {
namespace {

constexpr int kFirst = 3;
constexpr int kMost = 4'096;

// NOLINTBEGIN(concurrency-mt-unsafe): before the first thread

std::string take(const char* name) {
    const char* value = std::getenv(name);
    std::string out = value != nullptr ? value : "";
    ::unsetenv(name);
    return out;
}

// NOLINTEND(concurrency-mt-unsafe)

std::optional<int> number(const std::string& text) {
    int out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc() || end != text.data() + text.size() || out < 0) return std::nullopt;
    return out;
}

int option_of(int fd, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

PassedKind kind_of(int fd) {
    const int domain = option_of(fd, SO_DOMAIN);
    const int type = option_of(fd, SO_TYPE);
    const bool internet = domain == AF_INET || domain == AF_INET6;
    if (internet && type == SOCK_DGRAM) return PassedKind::udp;
    if (type != SOCK_STREAM || option_of(fd, SO_ACCEPTCONN) != 1) return PassedKind::other;
    if (internet) return PassedKind::tcp_listener;
    return domain == AF_UNIX ? PassedKind::unix_listener : PassedKind::other;
}

}  // namespace

std::string_view describe(PassedKind kind) {
    switch (kind) {
        case PassedKind::tcp_listener: return "a listening TCP socket";
        case PassedKind::unix_listener: return "a listening unix stream socket";
        case PassedKind::udp: return "a UDP socket";
        case PassedKind::other: return "neither a listening stream socket nor a UDP socket";
    }
    return "unknown";
}

Result<std::vector<std::string>> passed_names(const ListenVariables& variables, int pid) {
    if (variables.pid.empty() || variables.fds.empty()) return std::vector<std::string>();
    const auto whom = number(variables.pid);
    if (!whom) return fail(ActivationErrc::malformed, "LISTEN_PID is no number");
    if (*whom != pid) return std::vector<std::string>();
    const auto count = number(variables.fds);
    if (!count || *count > kMost) return fail(ActivationErrc::malformed, "LISTEN_FDS is no such number");
    std::vector<std::string> out(static_cast<std::size_t>(*count), "unknown");
    if (variables.names.empty() || out.empty()) return out;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const auto end = variables.names.find(':', begin);
        const bool last = i + 1 == out.size();
        if (last != (end == std::string::npos))
            return fail(ActivationErrc::malformed, "LISTEN_FDNAMES has not one name for each descriptor");
        out[i] = variables.names.substr(begin, last ? std::string::npos : end - begin);
        begin = end + 1;
    }
    return out;
}

Result<std::vector<PassedSocket>> take_passed_sockets() {
    const ListenVariables variables{take("LISTEN_PID"), take("LISTEN_FDS"), take("LISTEN_FDNAMES")};
    auto names = passed_names(variables, ::getpid());
    if (!names) return fail(std::move(names));
    std::vector<PassedSocket> out;
    int fd = kFirst;
    for (std::string& name : *names) {
        const int flags = ::fcntl(fd, F_GETFL);
        if (flags < 0) return fail_errno("descriptor " + std::to_string(fd) + " of the service manager");
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        const PassedKind kind = kind_of(fd);
        if (kind != PassedKind::other) ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        out.push_back({std::move(name), kind, UniqueFd(fd)});
        ++fd;
    }
    return out;
}

}  // namespace curvegate::os
