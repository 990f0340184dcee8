#include "daemon/parent/parent.hpp"

#include "base/exit_code.hpp"
#include "daemon/parent/confinement.hpp"
#include "daemon/parent/limits.hpp"
#include "daemon/parent/lookup.hpp"
#include "daemon/parent/openings.hpp"
#include "daemon/parent/reload.hpp"
#include "daemon/parent/reopen.hpp"
#include "daemon/parent/revoke.hpp"
#include "daemon/parent/service_manager.hpp"
#include "daemon/parent/signals.hpp"
#include "daemon/parent/supervisor.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "os/sandbox.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace curvegate::daemon::parent {
namespace {

using io::now;
using log::Level;

constexpr Duration kLastWords = std::chrono::seconds(5);  // of a front whose drain-timeout is over

InForce in_force_from(Loaded loaded) {
    const std::size_t workers = worker_count(*loaded.config);
    return {std::move(loaded), workers};
}

/// The one thread of the parent: it waits for all that may come, and has each thing done by whoever knows it.
class Parent {
  public:
    Parent(std::string file, Loaded loaded, PassedSockets passed, RunFrontFn run_front)
        : in_force_(in_force_from(std::move(loaded))),
          openings_(std::move(passed), in_force_.workers),
          children_(in_force_, openings_, run_front, [this] { release(); }),
          reload_(std::move(file), confinement_, manager_, in_force_, openings_, children_) {}

    // The vault's end may take a moment: until then nobody shall find our sockets.
    ~Parent() { openings_.close(); }
    Parent(const Parent&) = delete;
    Parent& operator=(const Parent&) = delete;

    int run() {
        if (const int status = start(); status != EXIT_SUCCESS) return status;
        while (!exit_status_) turn();
        return *exit_status_;
    }

  private:
    enum class Phase {
        starting,  ///< no front has been ready yet: one that ends now is not followed by another
        serving,
        stopping,  ///< the front drains, and its end is ours
    };

    // Returns the exit status to end with; 0 if all that is checked and opened once is in order.
    [[nodiscard]] int start() {
        if (auto hard = os::harden_process(); !hard) {
            log::event(Level::warning, "sandbox_missing", {{"reason", hard.error().text()}});
        }
        take_limits(in_force_.loaded);
        if (!openings_.open_all(in_force_.config())) return exit_code::kUnavailable;
        if (!confinement_.enter(in_force_.config())) return exit_code::kUnavailable;
        // The vault may ask for a passphrase: until it has it, ^C ends us as it ends any program.
        if (const int status = children_.start_vault(); status != 0) return status;
        auto signals = take_signals();
        if (!signals) {
            log::event(Level::error, "start_failed", {{"reason", signals.error().text()}});
            return exit_code::kUnavailable;
        }
        signals_ = std::move(*signals);
        return children_.start_front() ? EXIT_SUCCESS : exit_code::kUnavailable;
    }

    // In a process that was forked for the front.
    void release() {
        signals_.reset();
        lookups_.clear();
    }

    void send(const ToFront& message) { children_.front().send(message); }

    // ---- the loop ----

    struct Wait {
        int fd;
        std::function<void()> readable;
    };
    // In the order in which they are worked off.
    [[nodiscard]] std::vector<Wait> waits() {
        std::vector<Wait> out;
        // From the last one on: those behind one that has finished move up.
        for (std::size_t i = lookups_.size(); i-- > 0;)
            out.push_back({lookups_.descriptor(i), [this, i] { send(lookups_.finish(i)); }});
        out.push_back({children_.front().channel(), [this] { read_channel(); }});
        out.push_back({children_.vault_lifeline(), [this] { children_.read_lifeline(); }});
        return out;
    }

    void turn() {
        const auto table = waits();
        std::vector<pollfd> set;
        set.reserve(table.size() + 1);
        for (const Wait& wait : table) set.push_back({wait.fd, POLLIN, 0});
        set.push_back({signals_.get(), POLLIN, 0});
        if (::poll(set.data(), set.size(), timeout()) < 0 && errno != EINTR) {
            exit_status_ = EXIT_FAILURE;
            return;
        }
        for (std::size_t i = 0; i < table.size(); ++i) {
            if (set[i].revents != 0) table[i].readable();
        }
        children_.tend(now());
        if (manager_.wants_to_hear(now())) send(to_front::LookAlive{});
        // Last: what a child has said is heard before its death is.
        if (set.back().revents != 0) read_signals();
    }

    [[nodiscard]] int timeout() const {
        auto next = children_.next_deadline();
        const auto watch = manager_.next_deadline();
        if (watch && (!next || *watch < *next)) next = watch;
        if (!next) return -1;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - now()).count();
        return static_cast<int>(std::clamp<long>(left, 0, 60'000));
    }

    // ---- signals ----

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
            case SIGUSR1: return reopen_files(in_force_.config(), openings_, children_);
            case SIGUSR2:
                log::event(Level::info, "signal", {{"name", "USR2"}, {"action", "status"}});
                return send(to_front::LogStatus{});
            default: break;
        }
        stop(number == SIGTERM ? "TERM" : "INT");
    }

    void stop(std::string_view why) {
        if (phase_ == Phase::stopping) {
            log::event(Level::warning, "stopped_at_once");
            children_.front().kill();
            exit_status_ = EXIT_FAILURE;
            return;
        }
        phase_ = Phase::stopping;
        manager_.stopping();
        openings_.close_doors();
        log::event(Level::info, "stopping", {{"signal", std::string(why)}});
        if (!children_.front().runs()) {
            exit_status_ = EXIT_SUCCESS;
            return;
        }
        // Who drains by command has been told already.
        if (why != "drain") send(to_front::Decided{0, to_front::Decided::What::drain, std::string(why)});
        send(to_front::Drain{});
        children_.front().end_by(now() + in_force_.config().timeouts.drain + kLastWords);
    }

    void reap() {
        const auto front = children_.reap();
        if (!front) return;
        lookups_.clear();  // the next front counts its requests from 1 again
        switch (phase_) {
            case Phase::stopping:
                exit_status_ = WIFEXITED(*front) ? WEXITSTATUS(*front) : EXIT_FAILURE;
                return;
            case Phase::starting: exit_status_ = exit_code::kUnavailable; return;  // it has said why
            case Phase::serving:
                log::event(Level::error, "front_down", {{"status", *front}});
                return children_.front_fell(now());
        }
    }

    // ---- a new configuration ----

    [[nodiscard]] bool can_reload() const { return phase_ == Phase::serving && children_.front().hears(); }

    // A signal does not get lost while a front is starting.
    void reload_if_possible() {
        if (phase_ != Phase::stopping && !can_reload()) return;
        if (std::exchange(reload_wanted_, false)) reload(0);
    }

    void reload(std::uint32_t id) {
        if (can_reload()) return reload_.run(id);
        reload_.refuse(id, {EXIT_FAILURE, {"not now: starting or ending"}});
    }

    // ---- what the front says ----

    void read_channel() {
        ByteArray<kMaxChannelMessage> buffer{};
        FrontProcess& front = children_.front();
        while (front.hears()) {
            auto received = os::receive_message(front.channel(), buffer);
            if (received && !*received) return;
            if (!received || (*received)->size == 0) return front.close_channel();  // SIGCHLD follows
            const auto message = parse_to_parent(Bytes(buffer).first((*received)->size));
            if (message) std::visit([this](const auto& m) { on(m); }, *message);
        }
    }

    void on(const to_parent::Ready&) {
        if (phase_ == Phase::starting) phase_ = Phase::serving;
        manager_.ready(in_force_);
        manager_.watch(now());
        for (const auto& service : in_force_.config().services) {
            if (service.accept.kind == config::Address::Kind::none) continue;
            log::event(Level::info, "listening",
                       {{"service", service.name},
                        {"address", service.accept.text()},
                        {"connect", service.connect_text()}});
        }
        log::event(Level::info, "ready",
                   {{"services", in_force_.config().services.size()}, {"workers", in_force_.workers}});
        reload_if_possible();
    }
    void on(const to_parent::Alive&) { manager_.alive(); }
    void on(const to_parent::Applied& what) {
        children_.handover().applied(what.generation);
        manager_.ready(in_force_);
    }
    void on(const to_parent::NotTaken& lost) { children_.not_taken(lost); }
    void on(const to_parent::VaultLost& lost) { children_.vault_lost(lost.worker); }
    void on(const to_parent::Reload& request) { reload(request.id); }
    void on(const to_parent::Drain&) { stop("drain"); }
    void on(const to_parent::Resolve& request) {
        if (const auto refused = lookups_.start(request, in_force_.config())) send(*refused);
    }
    void on(const to_parent::Revoke& request) {
        const auto [status, told] = revoke(request, in_force_);
        if (told) send(to_front::Told{request.id, *told});
        send(to_front::Done{request.id, static_cast<std::uint16_t>(status)});
    }

    InForce in_force_;
    Confinement confinement_;
    ServiceManager manager_;
    Openings openings_;
    Supervisor children_;
    Reload reload_;
    Lookups lookups_;
    os::UniqueFd signals_;
    Phase phase_ = Phase::starting;
    bool reload_wanted_ = false;  // by a signal
    std::optional<int> exit_status_;
};

}  // namespace

int run(std::string file, Loaded loaded, PassedSockets passed, RunFrontFn run_front) {
    return Parent(std::move(file), std::move(loaded), std::move(passed), run_front).run();
}

}  // namespace curvegate::daemon::parent
