#include "daemon/parent/vault_keeper.hpp"

#include "base/exit_code.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "os/connect_unix.hpp"
#include "os/file.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

namespace curvegate::daemon::parent {
namespace {

using io::now;

using log::Level;

constexpr Duration kFirstBackoff = std::chrono::milliseconds(100);
constexpr Duration kLongestBackoff = std::chrono::seconds(10);
constexpr Duration kSendAgain = std::chrono::seconds(1);

// Of `curvegate rotate`; empty: there is none.
std::string control_path(const config::Config& config) {
    if (!config.vault_control.empty() || config.control.empty()) return config.vault_control;
    return os::folder_of(config.control) + "/vault-control.sock";
}

vault_client::VaultOptions options_of(const config::Config& config) {
    vault_client::VaultOptions out;
    // A key that is needed and has no path is a credential: main() saw to that.
    const auto place = [](const std::string& path) {
        return path.empty() ? std::string("credential") : path;
    };
    if (config.needs_server_key()) out.server_key = place(config.server_key);
    if (config.needs_client_key()) out.client_key = place(config.client_key);
    out.known_hosts = config.known_hosts;
    out.state_dir = config.state_dir;
    out.passphrase_file = config.passphrase_file;
    out.control = control_path(config);
    out.require_sandbox = config.sandbox == config::Strictness::require;
    out.require_locked_memory = config.lock_memory == config::Strictness::require;
    return out;
}

}  // namespace

VaultKeeper::VaultKeeper(config::Config config, std::size_t connections)
    : config_(std::move(config)),
      connections_(connections),
      wanted_(connections, false),
      backoff_(kFirstBackoff) {}

VaultKeeper::~VaultKeeper() {
    control_file_.remove_all();
    vault_client::end_vault(process_);
}

void VaultKeeper::forget() noexcept {
    process_.lifeline.reset();
    process_.pid = -1;
    fresh_.clear();
    control_file_.forget();
}

int VaultKeeper::start() {
    if (!spawned()) {
        wanted_.assign(connections_, true);
        due_ = now();
        if (tend(now()) == News::connections) return 0;
        log::event(Level::warning, "vault_down",
                   {{"reason", "not reachable yet at " + config_.vault_socket}});
        return 0;
    }
    if (auto begun = begin(); !begun) {
        log::event(Level::error, "vault_failed", {{"reason", begun.error().text()}});
        return exit_code::kUnavailable;
    }
    const auto answer =
        vault_client::vault_answer(process_.lifeline.get());  // blocks: it may wait for a passphrase
    ::fcntl(process_.lifeline.get(), F_SETFL, O_NONBLOCK);
    const auto failure =
        !answer ? vault_client::VaultAnswer{exit_code::kUnavailable, answer.error().text()} : **answer;
    if (failure.exit_code != 0) {
        log::event(Level::error, "vault_failed", {{"reason", failure.why}});
        return failure.exit_code;
    }
    is_up();
    return 0;
}

void VaultKeeper::is_up() {
    ready_ = true;
    log::event(Level::info, "vault_up", {{"pid", process_.pid}});
    control_file_.forget();  // one of a vault before it: this one has put its own in its place
    // Without a server key there is nothing to rotate, and the vault makes no such socket.
    if (const auto path = control_path(config_); !path.empty() && config_.needs_server_key())
        control_file_.add(path);
}

Result<> VaultKeeper::begin() {
    auto process = vault_client::start_vault(options_of(config_), connections_);
    if (!process) return fail(std::move(process));
    process_ = std::move(*process);
    fresh_ = std::move(process_.connections);
    ready_ = false;
    return {};
}

std::vector<os::UniqueFd> VaultKeeper::take_connections() {
    return std::exchange(fresh_, {});
}

VaultKeeper::News VaultKeeper::tend(Instant now) {
    if (!due_ || now < *due_) return News::none;
    due_.reset();
    if (!spawned()) return connect_wanted();
    if (auto begun = begin(); !begun) {
        log::limited(Level::error, "vault_failed", {{"reason", begun.error().text()}});
        retry_later();
    } else {
        ::fcntl(process_.lifeline.get(), F_SETFL, O_NONBLOCK);
    }
    return News::none;
}

// To a vault that is a unit of its own: for the workers that lack a connection.
VaultKeeper::News VaultKeeper::connect_wanted() {
    fresh_ = std::vector<os::UniqueFd>(connections_);
    News news = News::none;
    for (std::size_t i = 0; i < connections_; ++i) {
        if (!wanted_[i]) continue;
        auto connection = connect_to_unit();
        if (!connection) {
            log::limited(Level::error, "vault_failed", {{"reason", connection.error().text()}});
            back_off();  // those that are connected are the workers' all the same
            return news;
        }
        fresh_[i] = std::move(*connection);
        wanted_[i] = false;
        news = News::connections;
    }
    backoff_ = kFirstBackoff;
    log::event(Level::info, "vault_up", {{"socket", config_.vault_socket}});
    return news;
}

VaultKeeper::News VaultKeeper::read_lifeline() {
    auto answer = vault_client::vault_answer(process_.lifeline.get());
    if (answer && !*answer) return News::none;
    if (!ready_ && answer && (*answer)->exit_code == 0) {
        backoff_ = kFirstBackoff;
        is_up();
        return News::connections;
    }
    std::string why = "ended";
    if (!ready_) why = answer ? (*answer)->why : answer.error().text();
    log::event(Level::error, "vault_down", {{"pid", process_.pid}, {"reason", why}});
    process_.lifeline.reset();
    retry_later();
    return News::none;
}

void VaultKeeper::retry_later() {
    ready_ = false;
    fresh_.clear();
    back_off();
}

void VaultKeeper::back_off() {
    due_ = now() + backoff_;
    backoff_ = std::min(backoff_ * 2, kLongestBackoff);
}

void VaultKeeper::reaped(int pid) {
    if (pid != process_.pid) return;
    if (process_.lifeline) (void)read_lifeline();  // what it said last, then its end
    process_.pid = -1;
}

void VaultKeeper::lost(std::size_t connection) {
    if (spawned() || connection >= connections_) return;
    wanted_[connection] = true;
    if (!due_) due_ = now() + backoff_;
}

void VaultKeeper::not_taken(std::size_t connection) {
    if (!spawned()) return lost(connection);
    if (due_) return;
    // A vault of ours takes no connection later: another one brings new ones.
    process_.lifeline.reset();
    process_.pid = -1;
    due_ = now() + kSendAgain;
}

void VaultKeeper::restart() {
    if (!spawned()) {
        wanted_.assign(connections_, true);
        due_ = now();
        return;
    }
    process_.lifeline.reset();  // the old vault ends; the new one waits for its lock
    process_.pid = -1;
    due_ = now();
}

Result<os::UniqueFd> VaultKeeper::connect_to_unit() const {
    const std::string& path = config_.vault_socket;
    // A vault whose queue is full is asked again later, and keeps nobody waiting.
    auto fd = os::connect_unix(path, SOCK_SEQPACKET, std::chrono::seconds(0));
    if (fd) return std::move(*fd);
    return fail(os::Errc::system, "connect to the vault at " + path + ": " + std::strerror(fd.error()));
}

}  // namespace curvegate::daemon::parent
