#include "daemon/parent.hpp"

#include "daemon/channel.hpp"
#include "daemon/front.hpp"
#include "daemon/listeners.hpp"
#include "daemon/lookup.hpp"
#include "daemon/vault_keeper.hpp"
#include "log/log.hpp"
#include "os/sandbox.hpp"

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
#include <thread>

namespace curvegate::daemon {
namespace {

using log::Level;

constexpr int kUnavailable = 69;  // EX_UNAVAILABLE
constexpr std::size_t kMaxLookups = 16;
constexpr Duration kFrontBackoff = std::chrono::seconds(1);

Instant now() {
    return std::chrono::steady_clock::now();
}

std::size_t worker_count(const config::Config& config) {
    if (config.workers != 0) return config.workers;
    return std::max(1U, std::thread::hardware_concurrency());
}

class Parent {
  public:
    Parent(const config::Config& config, std::shared_ptr<const registry::Registry> registry)
        : config_(config),
          registry_(std::move(registry)),
          workers_(worker_count(config)),
          vault_(config, workers_) {}

    ~Parent() { stop_listening(); }

    int run() {
        if (auto hard = os::harden_process(); !hard) {
            log::event(Level::warning, "sandbox_missing", {{"reason", hard.error().text()}});
        }
        log::event(Level::info, "limits", {{"descriptors", std::to_string(raise_descriptor_limit())}});
        if (!open_all()) return kUnavailable;
        // The vault may ask for a passphrase: until it has it, ^C ends us as it ends any program.
        if (const int status = vault_.start(); status != 0) return status;
        if (!take_signals()) return kUnavailable;
        if (!start_front()) return kUnavailable;
        while (!exit_status_) turn();
        return *exit_status_;
    }

  private:
    bool take_signals() {
        sigset_t set;
        ::sigemptyset(&set);
        for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD})
            ::sigaddset(&set, number);
        ::sigprocmask(SIG_BLOCK, &set, nullptr);
        ::signal(SIGPIPE, SIG_IGN);
        signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
        return static_cast<bool>(signals_);
    }

    // One UDP endpoint carries all services whose tunnels come to its address: the first of them opens it.
    [[nodiscard]] bool shares_address(const config::Service& service) const {
        const auto same = [&](const config::Service& other) {
            return other.side == config::Side::server && other.accept == service.accept;
        };
        return service.side == config::Side::server && service.accept.kind == config::Address::Kind::udp &&
               &*std::ranges::find_if(config_.services, same) != &service;
    }

    bool open_all() {
        for (const auto& service : config_.services) {
            if (shares_address(service)) {
                listeners_.emplace_back();
                continue;
            }
            auto sockets = open_listeners(service, workers_);
            if (!sockets) {
                log::event(Level::error, "listen_failed",
                           {{"file", config_.file + ":" + std::to_string(service.line)},
                            {"reason", sockets.error().text()}});
                return false;
            }
            listeners_.push_back(std::move(*sockets));
            const bool on_path = service.accept.kind == config::Address::Kind::unix_socket;
            if (on_path) socket_files_.push_back(service.accept.path);
        }
        return true;
    }

    void stop_listening() {
        listeners_.clear();
        for (const std::string& path : socket_files_) ::unlink(path.c_str());
        socket_files_.clear();
    }

    // The sockets stay here too, so that a new front takes over what waits in their queues.
    std::vector<std::vector<os::UniqueFd>> copies() {
        std::vector<std::vector<os::UniqueFd>> out;
        for (const auto& sockets : listeners_) {
            auto& row = out.emplace_back();
            for (const auto& socket : sockets) row.emplace_back(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
        }
        return out;
    }

    bool start_front() {
        auto pair = os::seqpacket_pair();
        if (!pair) return false;
        auto sockets = copies();
        const pid_t pid = ::fork();
        if (pid < 0) return false;
        if (pid == 0) {
            // TERM and INT of the terminal stay blocked: the front ends with its channel.
            signals_.reset();
            pair->first.reset();
            vault_.forget();
            lookups_.clear();
            listeners_.clear();
            FrontSetup setup{&config_, registry_, workers_, std::move(sockets), std::move(pair->second)};
            const int status = run_front(std::move(setup));
            ::_exit(status);
        }
        front_pid_ = pid;
        channel_ = std::move(pair->first);
        ::fcntl(channel_.get(), F_SETFL, O_NONBLOCK);
        hand_over_connections();
        return true;
    }

    void hand_over_connections() {
        auto connections = vault_.take_connections();
        for (std::size_t i = 0; i < connections.size(); ++i) {
            if (connections[i])
                send(to_front::VaultConnection{static_cast<std::uint16_t>(i)}, connections[i].get());
        }
    }

    void send(const ToFront& message, int fd = -1) {
        if (channel_) (void)os::send_message(channel_.get(), serialise(message), fd);
    }

    // ---- the loop ----

    void turn() {
        std::vector<pollfd> set = {
            {signals_.get(), POLLIN, 0}, {channel_.get(), POLLIN, 0}, {vault_.descriptor(), POLLIN, 0}};
        for (const auto& lookup : lookups_) set.push_back({lookup.answer.get(), POLLIN, 0});
        if (::poll(set.data(), set.size(), timeout()) < 0 && errno != EINTR) {
            exit_status_ = EXIT_FAILURE;
            return;
        }
        const std::size_t looked_up = lookups_.size();
        for (std::size_t i = looked_up; i-- > 0;) {
            if (set[i + 3].revents != 0) finish_lookup(i);
        }
        if (set[1].revents != 0) read_channel();
        if (vault_.turn(set[2].revents != 0)) hand_over_connections();
        if (front_due_ && now() >= *front_due_) restart_front();
        if (set[0].revents != 0) read_signals();
    }

    [[nodiscard]] int timeout() const {
        std::optional<Instant> next = vault_.next_deadline();
        if (front_due_ && (!next || *front_due_ < *next)) next = front_due_;
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
                return log::event(Level::info, "signal",
                                  {{"name", "HUP"}, {"action", "reload: not yet, restart instead"}});
            case SIGUSR1:
                return log::event(Level::info, "signal",
                                  {{"name", "USR1"}, {"action", "reopen logs: not yet"}});
            case SIGUSR2:
                log::event(Level::info, "signal", {{"name", "USR2"}, {"action", "status"}});
                return send(to_front::LogStatus{});
            default: break;
        }
        if (stopping_) {
            log::event(Level::warning, "stopped_at_once");
            if (front_pid_ > 0) ::kill(front_pid_, SIGKILL);
            exit_status_ = EXIT_FAILURE;
            return;
        }
        stopping_ = true;
        stop_listening();  // whoever comes now is told at once that nobody listens
        log::event(Level::info, "stopping", {{"signal", number == SIGTERM ? "TERM" : "INT"}});
        if (front_pid_ < 0) {
            exit_status_ = EXIT_SUCCESS;
            return;
        }
        send(to_front::Drain{});
    }

    void reap() {
        int status = 0;
        for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
            if (pid == front_pid_) on_front_end(status);
            vault_.reaped(pid);
        }
    }

    void on_front_end(int status) {
        front_pid_ = -1;
        channel_.reset();
        const bool orderly = WIFEXITED(status);
        if (stopping_) {
            exit_status_ = orderly ? WEXITSTATUS(status) : EXIT_FAILURE;
        } else if (!ready_) {
            exit_status_ = kUnavailable;  // it has said why
        } else {
            log::event(Level::error, "front_down", {{"status", std::to_string(status)}});
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
        while (channel_) {
            auto received = os::receive_message(channel_.get(), buffer);
            if (received && !*received) return;
            if (!received || (*received)->size == 0) return channel_.reset();  // SIGCHLD follows
            const auto message = parse_to_parent(Bytes(buffer).first((*received)->size));
            if (message) std::visit([this](const auto& m) { on(m); }, *message);
        }
    }

    void on(const to_parent::Ready&) {
        ready_ = true;
        for (const auto& service : config_.services) {
            log::event(Level::info, "listening",
                       {{"service", service.name},
                        {"address", service.accept.text()},
                        {"connect", service.connect.text()}});
        }
        log::event(
            Level::info, "ready",
            {{"services", std::to_string(config_.services.size())}, {"workers", std::to_string(workers_)}});
    }
    void on(const to_parent::VaultLost& lost) { vault_.lost(lost.worker); }
    void on(const to_parent::Resolve& request) {
        // Only names of the configuration: a front that was taken over learns nothing else.
        const auto named = std::ranges::any_of(config_.services,
                                               [&](const auto& s) { return s.connect.host == request.host; });
        if (named && lookups_.size() < kMaxLookups) {
            if (auto lookup = start_lookup(request.id, request.host))
                return lookups_.push_back(std::move(*lookup));
        }
        send(to_front::Resolved{request.id, {}});
    }

    void finish_lookup(std::size_t index) {
        const Lookup lookup = std::move(lookups_[index]);
        lookups_.erase(lookups_.begin() + static_cast<std::ptrdiff_t>(index));
        ByteArray<kMaxChannelMessage> buffer{};
        auto received = os::receive_message(lookup.answer.get(), buffer);
        const bool answered = received && *received && (*received)->size != 0;
        const auto message = answered ? parse_to_front(Bytes(buffer).first((*received)->size)) : std::nullopt;
        if (message && std::holds_alternative<to_front::Resolved>(*message)) return send(*message);
        send(to_front::Resolved{lookup.id, {}});
    }

    const config::Config& config_;
    std::shared_ptr<const registry::Registry> registry_;
    std::size_t workers_;
    VaultKeeper vault_;
    std::vector<std::vector<os::UniqueFd>> listeners_;
    std::vector<std::string> socket_files_;  // that we made
    std::vector<Lookup> lookups_;
    os::UniqueFd signals_;
    os::UniqueFd channel_;
    pid_t front_pid_ = -1;
    std::optional<Instant> front_due_;
    std::optional<int> exit_status_;
    bool ready_ = false;
    bool stopping_ = false;
};

}  // namespace

int run_parent(const config::Config& config, std::shared_ptr<const registry::Registry> registry) {
    return Parent(config, std::move(registry)).run();
}

}  // namespace curvegate::daemon
