#include "daemon/parent/passed.hpp"

#include <fcntl.h>

#include <algorithm>

namespace curvegate::daemon::parent {
namespace {

using Kind = os::PassedKind;

bool is_datagrams(const config::Service& service) {
    return service.accept.kind == config::Address::Kind::udp;
}

bool fits(const config::Service& service, Kind kind) {
    if (is_datagrams(service)) return kind == Kind::udp;
    // A tunnel's clients are known by their addresses too.
    const bool server = service.side == config::Side::server;
    return kind == Kind::tcp_listener || (!server && kind == Kind::unix_listener);
}

std::string wanted(const config::Service& service) {
    if (is_datagrams(service)) return "a UDP socket (ListenDatagram=)";
    const bool server = service.side == config::Side::server;
    return server ? "a listening TCP socket (ListenStream=PORT, Accept=no)"
                  : "a listening TCP or unix stream socket (ListenStream=, Accept=no; for datagrams write "
                    "udp:systemd:NAME)";
}

}  // namespace

Result<std::vector<os::UniqueFd>> PassedSockets::copies_for(const config::Service& service,
                                                            std::size_t workers) const {
    const std::string head = "[" + service.name + "] accept = " + service.accept.text() + ": ";
    std::vector<os::UniqueFd> out;
    for (const auto& socket : sockets_) {
        if (socket.name != service.accept.passed) continue;
        if (!fits(service, socket.kind)) {
            return fail(os::Errc::system, head + "what was passed is " + std::string(describe(socket.kind)) +
                                              "; wanted is " + wanted(service));
        }
        if (is_datagrams(service) && !out.empty())
            return fail(os::Errc::system, head + "only one socket of datagrams can be served by a section");
        for (std::size_t i = 0; i < (is_datagrams(service) ? 1 : workers); ++i) {
            out.emplace_back(::fcntl(socket.fd.get(), F_DUPFD_CLOEXEC, 0));
            if (!out.back()) return os::fail_errno(head + "copy");
        }
    }
    if (!out.empty()) return out;
    std::string names;
    for (const auto& socket : sockets_) names += (names.empty() ? "" : ", ") + socket.name;
    return fail(os::Errc::system,
                head + (names.empty() ? "no socket was passed: start the daemon by a .socket unit with "
                                        "FileDescriptorName=" +
                                            service.accept.passed
                                      : "no socket of that name was passed, but: " + names +
                                            " (the name is FileDescriptorName= of the .socket unit)"));
}

std::vector<std::string> PassedSockets::unused(const config::Config& config) const {
    std::vector<std::string> out;
    for (const auto& socket : sockets_) {
        const bool used = std::ranges::any_of(
            config.services, [&](const auto& service) { return service.accept.passed == socket.name; });
        if (!used && std::ranges::find(out, socket.name) == out.end()) out.push_back(socket.name);
    }
    return out;
}

}  // namespace curvegate::daemon::parent
