#include "daemon/parent/lookup.hpp"

#include "daemon/channel.hpp"
#include "io/look_up.hpp"
#include "os/sandbox.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

namespace curvegate::daemon::parent {
namespace {

static_assert(io::kMostAddresses <= kMaxAddresses);

NameAnswer answer_for(const std::string& host) {
    auto found = io::look_up(host);
    if (found) return {NameOutcome::found, std::move(*found)};
    const Error& why = found.error();
    if (why.is(io::DialErrc::name_unanswered)) return {NameOutcome::no_answer, {}};
    return {why.is(io::DialErrc::own_lack) ? NameOutcome::own_lack : NameOutcome::unknown, {}};
}

// What the system's resolver reads, as it stands now: a later change of these files is seen by later
// look-ups.
os::Reach resolver_files() {
    return {{"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
             "/etc/services", "/etc/ld.so.cache", "/run/systemd/resolve", "/run/NetworkManager",
             "/run/resolvconf", "/run/nscd", "/lib", "/lib64", "/usr/lib"},
            {}};
}

bool is_named(const std::string& host, const config::Config& config) {
    return std::ranges::any_of(config.services, [&](const config::Service& service) {
        return std::ranges::find(service.connect, host, &config::Address::host) != service.connect.end();
    });
}

[[noreturn]] void look_up(std::uint32_t id, const std::string& host, int answer_to) {
    // A resolver that was fooled finds nothing here: no socket of the daemon, no file but its own.
    constexpr int kAnswer = 3;
    ::dup2(answer_to, kAnswer);
    ::syscall(SYS_close_range, kAnswer + 1, ~0U, 0);
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(kLookupSeconds);
    (void)os::harden_process();
    (void)os::confine(os::Calls::lookup, resolver_files());  // where it cannot be, the parent has said so
    const auto answer = serialise(ToFront(to_front::Resolved{id, answer_for(host)}));
    (void)os::send_message(kAnswer, answer);
    ::_exit(EXIT_SUCCESS);
}

}  // namespace

std::optional<to_front::Resolved> Lookups::start(const to_parent::Resolve& request,
                                                 const config::Config& config) {
    if (!is_named(request.host, config)) return to_front::Resolved{request.id, {NameOutcome::unknown, {}}};
    if (under_way_.size() >= kMostLookups) return to_front::Resolved{request.id, {NameOutcome::busy, {}}};
    auto pair = os::seqpacket_pair();
    const pid_t pid = pair ? ::fork() : -1;
    if (pid < 0) return to_front::Resolved{request.id, {NameOutcome::own_lack, {}}};
    if (pid == 0) look_up(request.id, request.host, pair->second.get());
    under_way_.push_back({request.id, std::move(pair->first)});
    return std::nullopt;
}

to_front::Resolved Lookups::finish(std::size_t place) {
    const UnderWay ended = std::move(under_way_[place]);
    under_way_.erase(under_way_.begin() + static_cast<std::ptrdiff_t>(place));
    ByteArray<kMaxChannelMessage> buffer{};
    auto received = os::receive_message(ended.answer.get(), buffer);
    const bool answered = received && *received && (*received)->size != 0;
    auto message = answered ? parse_to_front(Bytes(buffer).first((*received)->size)) : std::nullopt;
    auto* resolved = message ? std::get_if<to_front::Resolved>(&*message) : nullptr;
    if (resolved == nullptr) return {ended.id, {NameOutcome::no_answer, {}}};
    resolved->id = ended.id;  // whatever a resolver that was fooled says
    return std::move(*resolved);
}

}  // namespace curvegate::daemon::parent
