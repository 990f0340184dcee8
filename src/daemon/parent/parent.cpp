#include "daemon/parent/parent.hpp"

#include "base/exit_code.hpp"
#include "daemon/channel.hpp"
#include "daemon/doors.hpp"
#include "daemon/parent/audit_open.hpp"
#include "daemon/parent/difference.hpp"
#include "daemon/parent/front_process.hpp"
#include "daemon/parent/handover.hpp"
#include "daemon/parent/listeners.hpp"
#include "daemon/parent/load.hpp"
#include "daemon/parent/log_file.hpp"
#include "daemon/parent/lookup.hpp"
#include "daemon/parent/reach.hpp"
#include "daemon/parent/signals.hpp"
#include "daemon/parent/vault_keeper.hpp"
#include "log/log.hpp"
#include "net/clock.hpp"
#include "os/file.hpp"
#include "os/inherited.hpp"
#include "os/notify.hpp"
#include "os/sandbox.hpp"
#include "os/spawn.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <unordered_set>

namespace curvegate::daemon::parent {
namespace {

using log::Level;
using net::now;
using Decision = to_front::Decided::What;

constexpr std::size_t kMostRevoked = 10'000;  // bounds what a front can have written to known_hosts
constexpr Duration kFrontBackoff = std::chrono::seconds(1);
constexpr Duration kLastWords = std::chrono::seconds(5);  // of a front whose drain-timeout is over

class Parent {
  public:
    Parent(std::string file, Loaded loaded, PassedSockets passed, RunFrontFn run_front)
        : file_(std::move(file)),
          run_front_(run_front),
          loaded_(std::move(loaded)),
          passed_(std::move(passed)),
          workers_(worker_count(*loaded_.config)),
          vault_(*loaded_.config, workers_) {}

    ~Parent() {
        stop_listening();
        own_files_.remove_all();
    }

    int run() {
        if (auto hard = os::harden_process(); !hard) {
            log::event(Level::warning, "sandbox_missing", {{"reason", hard.error().text()}});
        }
        tell_limits();
        if (!open_all() || !confine()) return exit_code::kUnavailable;
        // The vault may ask for a passphrase: until it has it, ^C ends us as it ends any program.
        if (const int status = vault_.start(); status != 0) return status;
        auto signals = take_signals();
        if (!signals) {
            log::event(Level::error, "start_failed", {{"reason", signals.error().text()}});
            return exit_code::kUnavailable;
        }
        signals_ = std::move(*signals);
        if (!start_front()) return exit_code::kUnavailable;
        while (!exit_status_) turn();
        return *exit_status_;
    }

  private:
    void tell_limits() const {
        const std::size_t descriptors = raise_descriptor_limit();
        if (!loaded_.lowered) return log::event(Level::info, "limits", {{"descriptors", descriptors}});
        log::event(Level::warning, "limits", {{"descriptors", descriptors}, {"reason", *loaded_.lowered}});
    }

    // Before the vault is started: what keeps a later one from starting keeps the first one too.
    [[nodiscard]] bool confine() {
        const config::Config& config = *loaded_.config;
        reach_ = reach_of(config, os::sibling_program("curvegate-vault"));
        const auto done = os::confine(os::Calls::parent, *reach_);
        if (done) return true;
        reach_.reset();
        const bool required = config.sandbox == config::Strictness::require;
        log::event(required ? Level::error : Level::warning, "sandbox_missing",
                   {{"reason", done.error().text()}});
        return !required;
    }

    // Returns nullopt if all are open, those of `doors_` and new ones, and otherwise what failed.
    std::optional<std::string> open_doors(const config::Config& config, DoorSockets& opened) {
        for (const DoorPlan& plan : doors_of(config)) {
            const config::Service& service = config.services[plan.services.front()];
            const bool passed = !service.accept.passed.empty();
            const bool is_open = sockets_.contains(plan.key);
            if (is_open && !passed) continue;
            // Passed ones are looked at each time: `client` may have been turned round.
            auto sockets = passed ? passed_.copies_for(service, workers_) : open_listeners(service, workers_);
            if (!sockets)
                return config.located({{config.file, service.accept_line, sockets.error().text()}})
                    .front()
                    .message();
            if (!passed && !service.accept.path.empty()) door_files_.add(service.accept.path);
            if (!is_open) opened[plan.key] = std::move(*sockets);
        }
        return std::nullopt;
    }

    bool open_all() {
        const auto failed = open_doors(*loaded_.config, sockets_);
        if (failed) log::event(Level::error, "listen_failed", {{"reason", *failed}});
        tell_unused();
        return !failed && open_control() && open_metrics() && open_first_audit();
    }

    // Clients of such a socket wait for nobody.
    void tell_unused() const {
        for (const std::string& name : passed_.unused(*loaded_.config)) {
            log::event(Level::warning, "socket_unused",
                       {{"name", name}, {"hint", "no section has accept = systemd:" + name}});
        }
    }

    bool open_control() {
        const config::Config& config = *loaded_.config;
        if (config.control.empty()) return true;
        for (const auto& [key, name] : {std::pair("control-group", &config.control_group),
                                        std::pair("status-group", &config.status_group)}) {
            if (name->empty() || group_of(*name)) continue;
            log::event(
                Level::error, "listen_failed",
                {{"reason", config.place_of(key) + ": " + key + " = " + *name + ": there is no such group"}});
            return false;
        }
        auto socket = open_control_socket(config.control, control_access());
        if (!socket) {
            log::event(Level::error, "listen_failed",
                       {{"reason", config.place_of("control") + ": control = " + socket.error().text()}});
            return false;
        }
        control_ = std::move(*socket);
        own_files_.add(config.control);
        return true;
    }

    bool open_metrics() {
        if (!loaded_.config->metrics) return true;
        auto socket = open_metrics_socket(*loaded_.config->metrics);
        if (!socket) {
            log::event(Level::error, "listen_failed",
                       {{"reason", loaded_.config->place_of("metrics") + ": " + socket.error().text()}});
            return false;
        }
        metrics_ = std::move(*socket);
        if (const auto& path = loaded_.config->metrics->path; !path.empty()) own_files_.add(path);
        return true;
    }

    bool open_first_audit() {
        auto file = new_audit(*loaded_.config);
        if (!file) {
            log::event(Level::error, "audit_not_opened", {{"reason", file.error().text()}});
            return false;
        }
        audit_ = std::move(*file);
        return true;
    }

    // No descriptor: there is none, or the one that is open is right.
    [[nodiscard]] Result<os::UniqueFd> new_audit(const config::Config& config) const {
        if (config.audit.empty() || (audit_ && is_same_file(audit_.get(), config.audit)))
            return os::UniqueFd();
        return open_audit(config.audit);
    }

    [[nodiscard]] ControlAccess control_access() const {
        return {::geteuid(), group_of(loaded_.config->control_group), group_of(loaded_.config->status_group)};
    }

    void stop_listening() {
        door_files_.remove_all();
        sockets_.clear();
    }

    bool start_front() {
        const auto started = fork_front();
        if (!started) log::event(Level::error, "front_failed", {{"reason", started.error().text()}});
        return started.has_value();
    }

    [[nodiscard]] Result<> fork_front() {
        auto pair = os::seqpacket_pair();
        if (!pair) return fail(std::move(pair));
        auto setup = front_setup(std::move(pair->second));
        if (!setup) return fail(std::move(setup));
        const pid_t pid = ::fork();
        if (pid < 0) return os::fail_errno("fork");
        if (pid == 0) {
            pair->first.reset();
            become_front(std::move(*setup));
        }
        front_.started(pid, std::move(pair->first));
        handover_.new_front();
        hand_over_connections();
        return {};
    }

    // The sockets stay here too: a new front takes over their queues, and goes on with the audit.
    [[nodiscard]] Result<FrontSetup> front_setup(os::UniqueFd channel) const {
        auto sockets = copies_of(sockets_);
        auto control = os::copy_of(control_);
        auto metrics = os::copy_of(metrics_);
        auto audit = os::copy_of(audit_);
        if (!sockets) return fail(std::move(sockets));
        for (auto* copy : {&control, &metrics, &audit}) {
            if (!*copy) return fail(std::move(*copy));
        }
        return FrontSetup{loaded_.config,   loaded_.registry,    revoked_,           workers_,
                          generation_,      std::move(*sockets), std::move(channel), std::move(*control),
                          control_access(), std::move(*metrics), std::move(*audit)};
    }

    // TERM and INT of the terminal stay blocked: the front ends with its channel.
    [[noreturn]] void become_front(FrontSetup setup) {
        signals_.reset();
        vault_.forget();
        lookups_.clear();
        sockets_.clear();
        passed_.clear();
        door_files_.forget();
        own_files_.forget();
        control_.reset();
        metrics_.reset();
        audit_.reset();
        os::clear_environment();  // it faces the network, and needs none of it
        log::after_fork();
        ::_exit(run_front_(std::move(setup)));
    }

    void hand_over_connections() {
        auto connections = vault_.take_connections();
        for (std::size_t i = 0; i < connections.size(); ++i) {
            if (connections[i])
                send(to_front::VaultConnection{static_cast<std::uint16_t>(i)}, connections[i].get());
        }
    }

    void send(const ToFront& message, int fd = -1) { (void)front_.send(message, fd); }

    // ---- the loop ----

    void turn() {
        std::vector<pollfd> set = {
            {signals_.get(), POLLIN, 0}, {front_.channel(), POLLIN, 0}, {vault_.descriptor(), POLLIN, 0}};
        for (std::size_t i = 0; i < lookups_.size(); ++i) set.push_back({lookups_.descriptor(i), POLLIN, 0});
        if (::poll(set.data(), set.size(), timeout()) < 0 && errno != EINTR) {
            exit_status_ = EXIT_FAILURE;
            return;
        }
        const std::size_t looked_up = lookups_.size();
        for (std::size_t i = looked_up; i-- > 0;) {
            if (set[i + 3].revents != 0) send(lookups_.finish(i));
        }
        if (set[1].revents != 0) read_channel();
        if (vault_.turn(set[2].revents != 0)) hand_over_connections();
        if (front_due_ && now() >= *front_due_) restart_front();
        watch_if_due();
        handover_.tend(now(), loaded_, sockets_, audit_.get());
        front_.tend(now());
        if (set[0].revents != 0) read_signals();
    }

    [[nodiscard]] int timeout() const {
        std::optional<Instant> next;
        for (const auto& due : {vault_.next_deadline(), front_.next_deadline(), front_due_, watch_at_,
                                handover_.next_deadline()}) {
            if (due && (!next || *due < *next)) next = due;
        }
        if (!next) return -1;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - now()).count();
        return static_cast<int>(std::clamp<long>(left, 0, 60'000));
    }

    void read_signals() {
        signalfd_siginfo info{};
        while (!exit_status_ && ::read(signals_.get(), &info, sizeof info) == sizeof info)
            on_signal(static_cast<int>(info.ssi_signo));
    }

    void on_signal(int number) {
        switch (number) {
            case SIGCHLD: return reap();
            case SIGHUP:
                log::event(Level::info, "signal", {{"name", "HUP"}, {"action", "reload"}});
                return reload_wanted_ = true, reload_if_possible();
            case SIGUSR1: return reopen_files();
            case SIGUSR2:
                log::event(Level::info, "signal", {{"name", "USR2"}, {"action", "status"}});
                return send(to_front::LogStatus{});
            default: break;
        }
        stop(number == SIGTERM ? "TERM" : "INT");
    }

    void stop(std::string_view why) {
        if (stopping_) {
            log::event(Level::warning, "stopped_at_once");
            front_.kill();
            exit_status_ = EXIT_FAILURE;
            return;
        }
        stopping_ = true;
        notifier_.say("STOPPING=1");
        stop_listening();  // whoever comes now is told at once that nobody listens
        log::event(Level::info, "stopping", {{"signal", std::string(why)}});
        if (!front_.runs()) {
            exit_status_ = EXIT_SUCCESS;
            return;
        }
        // Who drains by command has been told already.
        if (why != "drain") send(to_front::Decided{0, Decision::drain, std::string(why)});
        send(to_front::Drain{});
        front_.end_by(now() + loaded_.config->timeouts.drain + kLastWords);
    }

    // Whoever rotates logs has moved the old file away.
    void reopen_files() {
        const std::string& log_file = loaded_.config->log_file;
        const bool to_file = !log_file.empty() && !is_standard_stream(log_file);
        const bool audited = !loaded_.config->audit.empty();
        std::string action = to_file ? "open log-file again" : "none: no log-file";
        if (audited) action = to_file ? action + ", and audit" : "open audit again";
        log::event(Level::info, "signal", {{"name", "USR1"}, {"action", action}});
        if (to_file) reopen_log();
        if (audited) reopen_audit();
    }

    void reopen_log() {
        auto file = open_log(loaded_.config->log_file);
        if (!file) return log::event(Level::error, "log_not_reopened", {{"reason", file.error().text()}});
        log::redirect(file->get());
        handover_.log(std::move(*file));
        send(to_front::Decided{0, Decision::log_reopened, {}});
        log::event(Level::info, "log_reopened");
    }

    void reopen_audit() {
        auto file = new_audit(*loaded_.config);
        if (!file) return log::event(Level::error, "audit_not_reopened", {{"reason", file.error().text()}});
        if (!*file) return;  // nobody has moved it
        hand_over_audit(std::move(*file));
        log::event(Level::info, "audit_reopened");
    }

    void hand_over_audit(os::UniqueFd file) {
        audit_ = std::move(file);
        handover_.audit(audit_.get());
    }

    // ---- a new configuration ----

    // A signal does not get lost while the front is starting.
    void reload_if_possible() {
        const bool waits = !stopping_ && (!ready_ || !front_.hears());
        if (!waits && std::exchange(reload_wanted_, false)) reload(0);
    }

    // The whole of it is read, checked and opened before anything changes; `id` is the request's, 0: a
    // signal's.
    void reload(std::uint32_t id) {
        if (stopping_ || !ready_ || !front_.hears())
            return refuse(id, {EXIT_FAILURE, {"not now: starting or ending"}});
        auto next = load(file_);
        if (!next) return refuse(id, next.error());
        DoorSockets opened;
        auto shut = reach_ ? beyond(*reach_, *next->config) : std::vector<std::string>();
        const auto refuse_with = [&](std::string why) {
            shut.insert(shut.begin(), std::move(why));
            return refuse(id, {exit_code::kUnavailable, std::move(shut)});
        };
        if (const auto failed = open_doors(*next->config, opened)) return refuse_with(*failed);
        auto audit = new_audit(*next->config);
        if (!audit) return refuse_with(audit.error().text());
        auto changes = difference(loaded_, *next);
        changes.insert(changes.end(), shut.begin(), shut.end());
        if (!handover_.configuration(*next, opened, sockets_))
            return refuse(id, {exit_code::kUnavailable, {"the front does not take it"}});
        notifier_.say(
            "RELOADING=1\nMONOTONIC_USEC=" +
            std::to_string(
                std::chrono::duration_cast<std::chrono::microseconds>(now().time_since_epoch()).count()));
        for (const std::string& line : changes) tell(id, line);
        if (changes.empty()) tell(id, "nothing has changed");
        if (*audit) hand_over_audit(std::move(*audit));
        adopt(std::move(*next), std::move(opened));
        handover_.apply({id, generation_, static_cast<std::uint32_t>(changes.size())});
        if (!audit_ || !loaded_.config->audit.empty()) return;
        send(to_front::NewAudit{false});  // with its last line
        audit_.reset();
    }

    void refuse(std::uint32_t id, const LoadFailure& why) {
        remove_all_but_of(*loaded_.config, door_files_);  // what was opened before something else failed
        for (const std::string& line : why.lines) {
            log::event(Level::error, "reload_failed", {{"reason", line}});
            tell(id, line);
        }
        send(to_front::Decided{id, Decision::reload_failed, why.lines.front()});
        send(to_front::Done{id, static_cast<std::uint16_t>(why.status)});
    }

    void tell(std::uint32_t id, const std::string& line) {
        if (id != 0) send(to_front::Told{id, line});
    }

    void adopt(Loaded next, DoorSockets opened) {
        remove_all_but_of(*next.config, door_files_);
        std::unordered_set<std::string> keys;
        for (DoorPlan& plan : doors_of(*next.config)) keys.insert(std::move(plan.key));
        std::erase_if(sockets_, [&](const auto& door) { return !keys.contains(door.first); });
        sockets_.merge(opened);
        loaded_ = std::move(next);
        ++generation_;
        tell_unused();
        if (loaded_.lowered) tell_limits();
    }

    void on(const to_parent::Reload& request) { reload(request.id); }
    void on(const to_parent::Drain&) { stop("drain"); }
    void on(const to_parent::Revoke& request) {
        std::vector<crypto::PublicKey> keys;
        for (const auto& bytes : request.keys) {
            if (auto key = crypto::PublicKey::parse(bytes)) keys.push_back(*key);
        }
        if (revoked_.size() + keys.size() > kMostRevoked) {  // a front that was taken over asks for it
            tell(request.id, "too many keys have been revoked since the start");
            return send(to_front::Done{request.id, EXIT_FAILURE});
        }
        // Until restart, whatever becomes of the file, of this front and of the configuration.
        revoked_.insert(revoked_.end(), keys.begin(), keys.end());
        const auto written = write_revoked(loaded_.config->known_hosts, keys);
        if (!written) {
            tell(request.id, written.error().text() + "; revoked until restart");
            log::event(Level::error, "revoke_not_written", {{"reason", written.error().text()}});
        }
        // The command, who may be root, writes it itself if we cannot.
        const int status = written ? exit_code::kOk : exit_code::kCannotCreate;
        send(to_front::Done{request.id, static_cast<std::uint16_t>(status)});
    }

    void reap() {
        int status = 0;
        for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
            if (front_.is(pid)) on_front_end(status);
            vault_.reaped(pid);
        }
    }

    void on_front_end(int status) {
        front_.ended();
        lookups_.clear();  // the next front counts its requests from 1 again
        const bool orderly = WIFEXITED(status);
        if (stopping_) {
            exit_status_ = orderly ? WEXITSTATUS(status) : EXIT_FAILURE;
        } else if (!ready_) {
            exit_status_ = exit_code::kUnavailable;  // it has said why
        } else {
            log::event(Level::error, "front_down", {{"status", status}});
            front_due_ = now() + kFrontBackoff;
        }
    }

    // Its connections to the vault ended with it: both start anew.
    void restart_front() {
        front_due_.reset();
        vault_.restart();
        if (!start_front()) front_due_ = now() + kFrontBackoff;
    }

    void read_channel() {
        ByteArray<kMaxChannelMessage> buffer{};
        while (front_.hears()) {
            auto received = os::receive_message(front_.channel(), buffer);
            if (received && !*received) return;
            if (!received || (*received)->size == 0) return front_.close_channel();  // SIGCHLD follows
            const auto message = parse_to_parent(Bytes(buffer).first((*received)->size));
            if (message) std::visit([this](const auto& m) { on(m); }, *message);
        }
    }

    void on(const to_parent::Ready&) {
        ready_ = true;
        say_ready();
        if (notifier_.watchdog()) watch_at_ = now() + *notifier_.watchdog() / 3;
        for (const auto& service : loaded_.config->services) {
            if (service.accept.kind == config::Address::Kind::none) continue;
            log::event(Level::info, "listening",
                       {{"service", service.name},
                        {"address", service.accept.text()},
                        {"connect", service.connect_text()}});
        }
        log::event(Level::info, "ready",
                   {{"services", loaded_.config->services.size()}, {"workers", workers_}});
        reload_if_possible();
    }
    void on(const to_parent::Alive&) { notifier_.say("WATCHDOG=1"); }
    void on(const to_parent::Applied& what) { handover_.applied(what.generation), say_ready(); }

    void say_ready() const {
        notifier_.say("READY=1\nSTATUS=generation " + std::to_string(generation_) +
                      ", services: " + std::to_string(loaded_.config->services.size()));
    }

    // The word comes from the front's loop, round through its workers.
    void watch_if_due() {
        if (!watch_at_ || now() < *watch_at_) return;
        watch_at_ = now() + *notifier_.watchdog() / 3;
        send(to_front::LookAlive{});
    }

    void on(const to_parent::NotTaken& lost) {
        handover_.not_taken(lost.what);
        if (lost.what == to_parent::NotTaken::What::vault) vault_.not_taken(lost.worker);
    }
    void on(const to_parent::VaultLost& lost) { vault_.lost(lost.worker); }
    void on(const to_parent::Resolve& request) {
        // Only names of the configuration: a front that was taken over learns nothing else.
        const auto leads_there = [&](const config::Service& service) {
            return std::ranges::find(service.connect, request.host, &config::Address::host) !=
                   service.connect.end();
        };
        const auto named = std::ranges::any_of(loaded_.config->services, leads_there);
        if (!named) return send(to_front::Resolved{request.id, {NameOutcome::unknown, {}}});
        if (const auto refused = lookups_.start(request)) send(*refused);
    }

    const std::string file_;
    const RunFrontFn run_front_;
    Loaded loaded_;
    std::optional<os::Reach> reach_;  // nothing: not confined
    PassedSockets passed_;
    std::uint32_t generation_ = 1;
    std::vector<crypto::PublicKey> revoked_;  // since the start
    std::size_t workers_;
    VaultKeeper vault_;
    DoorSockets sockets_;
    Lookups lookups_;
    const os::Notifier notifier_ = os::Notifier::from_environment();
    std::optional<Instant> watch_at_;  // when the front is asked next
    os::UniqueFd control_;
    os::UniqueFd audit_;  // held too, so that the next front goes on
    os::UniqueFd metrics_;
    os::SocketFiles door_files_;  // of the unix sockets that sections accept at
    os::SocketFiles own_files_;   // of control and metrics
    os::UniqueFd signals_;
    FrontProcess front_;
    Handover handover_{front_};
    std::optional<Instant> front_due_;
    std::optional<int> exit_status_;
    bool ready_ = false;
    bool reload_wanted_ = false;  // by a signal
    bool stopping_ = false;
};

}  // namespace

int run(std::string file, Loaded loaded, PassedSockets passed, RunFrontFn run_front) {
    return Parent(std::move(file), std::move(loaded), std::move(passed), run_front).run();
}

}  // namespace curvegate::daemon::parent
