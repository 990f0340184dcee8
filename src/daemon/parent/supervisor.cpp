#include "daemon/parent/supervisor.hpp"

#include "log/log.hpp"
#include "os/inherited.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace curvegate::daemon::parent {

Supervisor::Supervisor(const InForce& in_force, Openings& openings, RunFrontFn run_front,
                       std::function<void()> release)
    : in_force_(in_force),
      openings_(openings),
      run_front_(run_front),
      release_(std::move(release)),
      vault_(in_force.config(), in_force.workers) {}

bool Supervisor::start_front() {
    const auto started = fork_front();
    if (!started) log::event(log::Level::error, "front_failed", {{"reason", started.error().text()}});
    return started.has_value();
}

Result<> Supervisor::fork_front() {
    auto pair = os::seqpacket_pair();
    if (!pair) return fail(std::move(pair));
    auto born_with = setup_with(std::move(pair->second));
    if (!born_with) return fail(std::move(born_with));
    const pid_t pid = ::fork();
    if (pid < 0) return os::fail_errno("fork");
    if (pid == 0) {
        pair->first.reset();
        become_front(std::move(*born_with));
    }
    front_.started(pid, std::move(pair->first));
    handover_.new_front();
    hand_over_connections();
    return {};
}

Result<FrontSetup> Supervisor::setup_with(os::UniqueFd channel) const {
    FrontSetup out{};
    out.config = in_force_.loaded.config;
    out.registry = in_force_.loaded.registry;
    out.revoked = in_force_.revoked;
    out.workers = in_force_.workers;
    out.generation = in_force_.generation;
    out.channel = std::move(channel);
    if (auto copied = openings_.copy_into(out); !copied) return fail(std::move(copied));
    return out;
}

// TERM and INT of the terminal stay blocked: the front ends with its channel.
void Supervisor::become_front(FrontSetup setup) {
    release_();
    vault_.forget();
    openings_.forget();
    os::clear_environment();  // it faces the network, and needs none of it
    log::after_fork();
    ::_exit(run_front_(std::move(setup)));
}

// Its connections to the vault ended with it: both start anew.
void Supervisor::restart_front(Instant now) {
    front_due_.reset();
    vault_.restart();
    if (!start_front()) front_fell(now);
}

void Supervisor::hand_over_connections() {
    auto connections = vault_.take_connections();
    for (std::size_t i = 0; i < connections.size(); ++i) {
        if (!connections[i]) continue;
        front_.send(to_front::VaultConnection{static_cast<std::uint16_t>(i)}, connections[i].get());
    }
}

std::optional<int> Supervisor::reap() {
    std::optional<int> of_front;
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
        if (front_.is(pid)) {
            front_.ended();
            of_front = status;
        }
        vault_.reaped(pid);
    }
    return of_front;
}

void Supervisor::read_lifeline() {
    if (vault_.read_lifeline() == VaultKeeper::News::connections) hand_over_connections();
}

void Supervisor::not_taken(const to_parent::NotTaken& what) {
    handover_.not_taken(what.what);
    if (what.what == to_parent::NotTaken::What::vault) vault_.not_taken(what.worker);
}

Deadline Supervisor::next_deadline() const {
    Deadline next;
    for (const Deadline& due :
         {vault_.next_deadline(), front_due_, handover_.next_deadline(), front_.next_deadline()}) {
        if (due && (!next || *due < *next)) next = due;
    }
    return next;
}

void Supervisor::tend(Instant now) {
    if (vault_.tend(now) == VaultKeeper::News::connections) hand_over_connections();
    if (front_due_ && now >= *front_due_) restart_front(now);
    handover_.tend(now, in_force_.loaded, openings_.doors(), openings_.audit());
    front_.tend(now);
}

}  // namespace curvegate::daemon::parent
