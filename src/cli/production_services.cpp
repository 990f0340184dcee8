#include "base/ip.hpp"
#include "cli/exit.hpp"
#include "cli/production.hpp"
#include "config/descriptors.hpp"
#include "os/descriptors.hpp"
#include "os/socket.hpp"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

/// Items 20 to 30, 32 and 33: services, limits, what shows the daemon to others.
namespace curvegate::cli::rules {
namespace {

using config::Address;
using config::Service;
using config::Side;
using namespace std::chrono_literals;

constexpr Duration kShortestDrain = 1s;
constexpr Duration kLongestDrain = 80s;  // systemd waits for 90 s

std::string in_brackets(const Service& service) {
    return "[" + service.name + "]";
}

bool is_loopback(const Address& address) {
    if (address.host == "localhost") return true;
    const auto ip = IpAddress::parse(address.host);
    return ip && (IpBlock::parse("127.0.0.0/8")->contains(*ip) || *ip == *IpAddress::parse("::1"));
}

bool is_unix(const Address& address) {
    return address.kind == Address::Kind::unix_socket || address.kind == Address::Kind::seqpacket;
}

bool is_private(const Address& address) {
    return is_unix(address) || address.kind == Address::Kind::none || is_loopback(address);
}

/// The first section of that side for which `fails`.
const Service* find(const Facts& facts, Side side, bool (*fails)(const Service&)) {
    for (const auto& service : facts.config().services) {
        if (service.side == side && fails(service)) return &service;
    }
    return nullptr;
}

// ---- dialling ----

std::optional<std::string> connect_to(int type, const sockaddr* address, socklen_t size, Duration limit) {
    const os::UniqueFd fd(::socket(address->sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return std::strerror(errno);
    if (::connect(fd.get(), address, size) == 0) return std::nullopt;
    if (errno != EINPROGRESS) return std::strerror(errno);
    pollfd waiting{fd.get(), POLLOUT, 0};
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
    if (::poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(milliseconds, 3'600'000))) <= 0)
        return "no answer in time";
    int code = 0;
    socklen_t code_size = sizeof code;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &code, &code_size);
    if (code != 0) return std::strerror(code);
    return std::nullopt;
}

std::optional<std::string> connect_unix(const Address& target, Duration limit) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    target.path.copy(address.sun_path, std::min(target.path.size(), sizeof address.sun_path - 1));
    const int type = target.kind == Address::Kind::seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
    return connect_to(type, reinterpret_cast<const sockaddr*>(&address), sizeof address, limit);
}

/// Why nobody answers there; nothing: somebody does.
std::optional<std::string> why_silent(const Address& address, Duration limit) {
    if (is_unix(address)) return connect_unix(address, limit);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failed =
        ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
    if (failed != 0) return ::gai_strerror(failed);
    std::optional<std::string> why = "no address";
    for (const addrinfo* one = found; one != nullptr && why; one = one->ai_next)
        why = connect_to(SOCK_STREAM, one->ai_addr, one->ai_addrlen, limit);
    ::freeaddrinfo(found);
    return why;
}

std::string last_line(std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(text.rfind('\n') + 1);
}

Finding not_dialled() {
    return not_checked("not tried without --dial");
}

/// Where sockets that systemd passes listen, only their unit says.
Finding unless_passed(const Facts& facts) {
    const Service* passed =
        find(facts, Side::client, [](const Service& s) { return !s.accept.passed.empty(); });
    if (passed == nullptr) return met();
    return not_checked(in_brackets(*passed) +
                       " has its socket from systemd: look at ListenStream= of its unit");
}

}  // namespace

Finding accept_private(const Facts& facts) {
    const Service* open = find(facts, Side::client, [](const Service& s) {
        return s.accept.passed.empty() && !is_private(s.accept);
    });
    if (open == nullptr) return unless_passed(facts);
    return not_met(
        in_brackets(*open) + " listens on " + open->accept.text() + ": whoever reaches it is the client",
        "use a unix socket or 127.0.0.1");
}

Finding connect_private(const Facts& facts) {
    for (const auto& service : facts.config().services) {
        if (service.side != Side::server) continue;
        const auto open = std::ranges::find_if_not(service.connect, is_private);
        if (open == service.connect.end()) continue;
        return not_met(in_brackets(service) + " goes on to " + open->text() + " in the clear",
                       "put the server end beside the service");
    }
    return met();
}

Finding accept_guarded(const Facts& facts) {
    const Service* open = find(facts, Side::client, [](const Service& s) {
        return s.accept.passed.empty() && !is_unix(s.accept) && s.accept.kind != Address::Kind::none;
    });
    if (open == nullptr) return unless_passed(facts);
    return not_met(
        in_brackets(*open) + " listens on " + open->accept.text() + ": every local user is the client",
        "use a unix socket if the program can");
}

Finding end_of_stream(const Facts& facts) {
    for (const auto& service : facts.config().services) {
        if (service.end_of_stream == config::EndOfStream::close)
            return not_met(in_brackets(service) + " has end-of-stream = close: a cut looks like an end",
                           "use message where the peer is curvegate");
    }
    return met();
}

Finding max_session(const Facts& facts) {
    for (const auto& service : facts.config().services) {
        if (!service.limits.max_session)
            return not_met(in_brackets(service) + " has no max-session", "set it, for instance to 1d");
    }
    return met();
}

Finding sessions_per_peer(const Facts& facts) {
    if (facts.parsed.line_of("", "sessions-per-peer") != 0) return met();
    for (const auto& service : facts.config().services) {
        if (service.side == Side::server && facts.parsed.line_of(service.name, "sessions-per-peer") == 0)
            return not_met(in_brackets(service) + " lets one peer have " +
                               std::to_string(service.limits.sessions_per_peer) + " sessions",
                           "set sessions-per-peer to what the service behind can take");
    }
    return met();
}

Finding descriptors(const Facts& facts) {
    if (!facts.descriptors) return not_checked("the daemon's limits cannot be read");
    const std::uint64_t limit = *facts.descriptors;
    const auto& config = facts.config();
    const std::size_t workers =
        config.workers != 0 ? config.workers : std::max(1U, std::thread::hardware_concurrency());
    const auto wanted = config::descriptors_of(config, workers, os::kept_back(limit)).sum();
    if (limit >= wanted) return met();
    return not_met("the hard limit of descriptors is " + std::to_string(limit) +
                       ", and sessions, half-open and flows may need " + std::to_string(wanted),
                   "set LimitNOFILE=" + std::to_string(wanted) + " in the unit, or lower these");
}

Finding drain(const Facts& facts) {
    const Duration drain = facts.config().timeouts.drain;
    if (drain < kShortestDrain)
        return not_met("drain-timeout cuts sessions at a stop", "set it to 1s or more");
    if (drain > kLongestDrain)
        return not_met("drain-timeout is longer than systemd waits", "set it to 80s or less");
    return met();
}

Finding log_level(const Facts& facts) {
    switch (facts.config().log_level) {
        case config::LogLevel::info: return met();
        case config::LogLevel::trace:
        case config::LogLevel::debug: return not_met("log-level logs each step", "set it to info");
        default: return not_met("log-level hides sessions and refusals", "set it to info");
    }
}

Finding backend_answers(const Facts& facts) {
    if (facts.dial == Dial::no) return not_dialled();
    for (const auto& service : facts.config().services) {
        if (service.side != Side::server) continue;
        for (const Address& target : service.connect) {
            if (target.kind == Address::Kind::udp) continue;
            if (const auto why = why_silent(target, service.limits.connect_timeout))
                return not_met(in_brackets(service) + ": " + target.text() + ": " + *why,
                               "start the service");
        }
    }
    return met();
}

Finding tunnel_answers(const Facts& facts) {
    if (facts.dial == Dial::no) return not_dialled();
    for (const auto& service : facts.config().services) {
        if (service.side != Side::client) continue;
        const Ran ran = run_program({"/proc/self/exe", "probe", service.name, "-c", facts.config().file});
        if (ran.status != 0)
            return not_met(in_brackets(service) + ": " + last_line(ran.said),
                           "see curvegate probe " + service.name);
    }
    return met();
}

Finding metrics_private(const Facts& facts) {
    const auto& metrics = facts.config().metrics;
    if (!metrics || is_private(*metrics)) return met();
    return not_met("metrics are served on " + metrics->text(), "use a unix socket or a loopback port");
}

Finding audit(const Facts& facts) {
    const std::string& path = facts.config().audit;
    if (path.empty()) return not_met("there is no audit file", "set audit = PATH");
    if (facts.parsed.line_of("", "audit-required") == 0)
        return not_met("audit-required is left to its default", "set it to yes or no");
    const Ran ran = run_program({"/proc/self/exe", "audit", "verify", path});
    if (ran.status == exit_code::kNoInput || ran.status == exit_code::kNoPermission)
        return not_checked(last_line(ran.said));
    if (ran.status != 0) return not_met(last_line(ran.said), "find out who changed it");
    return met();
}

}  // namespace curvegate::cli::rules
