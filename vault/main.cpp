// curvegate-vault: holds the long-term secret keys and answers the daemon's requests (docs/DESIGN.md "The
// vault").

#include "base/exit_code.hpp"
#include "crypto/secret.hpp"
#include "os/file.hpp"
#include "os/inherited.hpp"
#include "os/outlet.hpp"
#include "os/sandbox.hpp"
#include "os/socket.hpp"
#include "vault/listener.hpp"
#include "vault/options.hpp"
#include "vault/server.hpp"
#include "vault/startup.hpp"

#include <boost/program_options.hpp>

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

namespace {

using namespace curvegate;
using namespace curvegate::vault;
namespace po = boost::program_options;

constexpr int kParent = 3;                  // with --descriptors: the daemon
constexpr int kFirstConnection = 4;         // and its workers
constexpr unsigned kListenStep = 20;        // milliseconds
constexpr unsigned kMostDescriptors = 255;  // Server::kMostConnections, and far below any limit

os::Outlet& standard_error() {
    static os::Outlet out(STDERR_FILENO);
    return out;
}

/// Whoever does not read these lines is not waited for, and is told later how many were left out.
void say(std::string_view line) {
    static std::uint64_t lost = 0;
    const auto put = [](const std::string& text) {
        return standard_error().write("curvegate-vault: " + text + "\n");
    };
    if (lost != 0 && put(std::to_string(lost) + " lines of this log are lost")) lost = 0;
    if (!put(std::string(line))) ++lost;
}

// ---- options ----

po::options_description described() {
    po::options_description all("curvegate-vault: holds curvegate's long-term secret keys\n\nOptions");
    auto add = all.add_options();
    add("server-key", po::value<std::string>()->value_name("FILE"), "key file of role server");
    add("client-key", po::value<std::string>()->value_name("FILE"), "key file of role client");
    add("known-hosts", po::value<std::string>()->value_name("FILE"), "the servers that vouches are made for");
    add("state-dir", po::value<std::string>()->value_name("DIR"),
        "nonce counters (default: the key file's folder)");
    add("passphrase-file", po::value<std::string>()->value_name("FILE"), "passphrase of sealed key files");
    add("sandbox", po::value<std::string>()->value_name("require|try")->default_value("require"),
        "confine the process, or do not start");
    add("lock-memory", po::value<std::string>()->value_name("require|try")->default_value("require"),
        "lock secrets into memory, or do not start");
    add("descriptors", po::value<unsigned>()->value_name("N"),
        "started by curvegated: descriptor 3 leads to it, 4 to 3+N to its workers");
    add("listen", po::value<std::string>()->value_name("PATH"), "serve a unix socket at PATH");
    add("allow-uid", po::value<std::vector<unsigned>>()->value_name("UID")->composing(),
        "with --listen: who may connect besides this user and root; may be repeated");
    add("control", po::value<std::string>()->value_name("PATH"),
        "serve `curvegate rotate` on a unix socket at PATH (this user and root only)");
    add("help", "print this and end");
    add("version", "print the version and end");
    return all;
}

std::string text_of(const po::variables_map& given, const char* name) {
    return given.count(name) != 0 ? given[name].as<std::string>() : std::string();
}

Started<Need> need_of(const po::variables_map& given, const char* name) {
    const std::string text = text_of(given, name);
    if (text == "require") return Need::require;
    if (text == "try") return Need::attempt;
    return std::unexpected(
        Failure{exit_code::kUsage, "--" + std::string(name) + ": want require or try, not " + text});
}

std::string credential(std::string_view name) {
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
    if (folder == nullptr || *folder == '\0') return {};
    const std::string path = std::string(folder) + "/curvegate." + std::string(name);
    return ::access(path.c_str(), F_OK) == 0 ? path : std::string();
}

/// A key by path, or by the word "credential".
Started<std::optional<KeyPlace>> place_of(const std::string& given, std::string_view name) {
    if (given.empty()) return std::nullopt;
    if (given != "credential") return KeyPlace{given, false};
    std::string found = credential(name);
    if (!found.empty()) return KeyPlace{std::move(found), true};
    return std::unexpected(Failure{
        exit_code::kNoInput,
        "there is no credential curvegate." + std::string(name) + " (see systemd's LoadCredential=)"});
}

/// What a set of options lacks, or empty.
std::string mistake_in(const Options& options) {
    const bool from_credential = (options.server_key && options.server_key->credential) ||
                                 (options.client_key && options.client_key->credential);
    if (!options.server_key && !options.client_key) return "no key: give --server-key or --client-key";
    if (from_credential && options.state_dir.empty()) return "a key from a credential needs --state-dir";
    if (options.client_key && options.known_hosts.empty()) return "--client-key needs --known-hosts";
    if (options.descriptors.has_value() == !options.listen.empty())
        return "give one of --descriptors and --listen";
    if (options.descriptors && (*options.descriptors == 0 || *options.descriptors > kMostDescriptors)) {
        return "--descriptors: want 1 to " + std::to_string(kMostDescriptors);
    }
    if (!options.allow_uids.empty() && options.listen.empty()) return "--allow-uid goes with --listen";
    return {};
}

Started<Options> options_of(const po::variables_map& given) {
    Options out;
    auto server_key = place_of(text_of(given, "server-key"), "server-key");
    auto client_key = place_of(text_of(given, "client-key"), "client-key");
    if (!server_key) return std::unexpected(server_key.error());
    if (!client_key) return std::unexpected(client_key.error());
    out.server_key = std::move(*server_key);
    out.client_key = std::move(*client_key);
    out.known_hosts = text_of(given, "known-hosts");
    out.state_dir = text_of(given, "state-dir");
    out.passphrase_file = text_of(given, "passphrase-file");
    out.passphrase_credential = credential("passphrase");
    const auto sandbox = need_of(given, "sandbox");
    const auto lock_memory = need_of(given, "lock-memory");
    if (!sandbox) return std::unexpected(sandbox.error());
    if (!lock_memory) return std::unexpected(lock_memory.error());
    out.sandbox = *sandbox;
    out.lock_memory = *lock_memory;
    if (given.count("descriptors") != 0) out.descriptors = given["descriptors"].as<unsigned>();
    out.listen = text_of(given, "listen");
    out.control = text_of(given, "control");
    if (given.count("allow-uid") != 0) out.allow_uids = given["allow-uid"].as<std::vector<unsigned>>();
    if (auto mistake = mistake_in(out); !mistake.empty())
        return std::unexpected(Failure{exit_code::kUsage, mistake});
    return out;
}

// ---- the process ----

/// Tells the daemon (one message on descriptor 3) or the log how the start went.
class Report {
  public:
    explicit Report(bool to_parent) noexcept : to_parent_(to_parent) {}
    void ready() const {
        if (to_parent_) tell(exit_code::kOk, {});
    }
    void failed(const Failure& failure) const {
        if (!to_parent_ || !tell(failure.exit_code, failure.text)) say(failure.text);
    }

  private:
    static bool tell(int code, std::string_view text) {
        std::string message(1, static_cast<char>(code));
        message += text;
        return os::send_message(kParent, as_bytes(message)).has_value();
    }
    bool to_parent_;
};

bool is_seqpacket(int fd) {
    int type = 0;
    socklen_t size = sizeof type;
    return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/// Takes the daemon's descriptors over and closes whatever else was left open.
Started<std::vector<os::UniqueFd>> take_descriptors(const Options& options) {
    const int last = options.descriptors ? kParent + static_cast<int>(*options.descriptors) : kParent - 1;
    ::close_range(static_cast<unsigned>(last + 1), ~0U, 0);
    std::vector<os::UniqueFd> connections;
    for (int fd = kParent; fd <= last; ++fd) {
        if (!is_seqpacket(fd)) {
            return std::unexpected(Failure{
                exit_code::kUsage, "descriptor " + std::to_string(fd) + " is not a SEQPACKET socket"});
        }
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (fd >= kFirstConnection) connections.emplace_back(fd);
    }
    return connections;
}

/// Gives a descriptor that becomes readable when the vault is to end. With a parent that is its socket:
/// signals from the terminal are the parent's business. Alone it is TERM or INT.
Started<int> end_signal(const Options& options) {
    for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE}) std::signal(signal, SIG_IGN);
    if (options.descriptors) {
        for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_IGN);
        return kParent;
    }
    sigset_t ends;
    ::sigemptyset(&ends);
    ::sigaddset(&ends, SIGINT);
    ::sigaddset(&ends, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &ends, nullptr);
    const int fd = ::signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return std::unexpected(Failure{exit_code::kSystem, os::fail_errno("signalfd").error().text()});
    return fd;
}

Started<> confine(const Options& options) {
    os::Reach reach;
    // The folder, since known_hosts is replaced and not rewritten; if it is a link, that of its end too.
    if (!options.known_hosts.empty()) {
        for (const auto& path : {options.known_hosts, os::end_of_link(options.known_hosts)})
            reach.readable.push_back(os::folder_of(path));
    }
    const auto confined = os::confine(os::Calls::vault, reach);
    if (confined) return {};
    if (options.sandbox == Need::require)
        return std::unexpected(Failure{exit_code::kUnavailable, confined.error().text()});
    say("WARNING: going on without a sandbox: " + confined.error().detail());
    return {};
}

std::vector<unsigned> allowed_uids(const Options& options) {
    std::vector<unsigned> uids = options.allow_uids;
    uids.push_back(0);
    uids.push_back(::geteuid());
    return uids;
}

/// The socket of a vault that is just ending may still be there.
Started<os::UniqueFd> listen_for_control(const std::string& path) {
    for (unsigned waited = 0;; waited += kListenStep) {
        auto listener = listen_at(path, SocketMode::owner);
        if (listener) return std::move(*listener);
        if (waited >= kCounterLockWait)
            return std::unexpected(
                Failure{exit_code::kUnavailable, "vault-control: " + listener.error().text()});
        ::usleep(kListenStep * 1000);
    }
}

/// What a step of a rotation means for those who ask for purposes.
void connect(Server& server, Rotation& rotation) {
    rotation.set_hooks({[&](NonceCounter& counter) { server.add_counter(counter); },
                        [&](NonceCounter& counter) { server.drop_counter(counter); },
                        [&](KeySlot slot) { server.announce(slot); }});
    server.greet_with([&] {
        std::vector<KeySlot> out;
        for (std::size_t i = 0; i < kServerSlots; ++i) {
            if (rotation.state().dropped.test(i)) out.push_back(static_cast<KeySlot>(i));
        }
        return out;
    });
}

Started<> run(const Options& options, const Report& report) {
    auto connections = take_descriptors(options);
    if (!connections) return std::unexpected(connections.error());
    (void)standard_error();  // before anything is confined
    const auto end = end_signal(options);
    if (!end) return std::unexpected(end.error());
    if (auto hardened = os::harden_process(); !hardened) {
        return std::unexpected(Failure{exit_code::kUnavailable, hardened.error().text()});
    }
    if (auto ready = crypto::initialise(); !ready) return std::unexpected(failure_of(ready.error()));
    auto holdings = Holdings::open(options, say, *end);
    if (!holdings) return std::unexpected(holdings.error());

    Server server((*holdings)->service(), (*holdings)->counters(), say);
    server.end_with(*end);
    if (!options.listen.empty()) {
        auto listener = listen_at(options.listen, SocketMode::group);
        if (!listener) return std::unexpected(Failure{exit_code::kUnavailable, listener.error().text()});
        server.accept_from(std::move(*listener), allowed_uids(options));
    }
    std::optional<ControlDoor> door;
    if (auto* rotation = (*holdings)->rotation()) {
        auto listener = listen_for_control(options.control);
        if (!listener) return std::unexpected(listener.error());
        connect(server, *rotation);
        door.emplace(
            std::move(*listener),
            [rotation](const ControlRequest& request, std::vector<os::UniqueFd> handed, Instant now) {
                return rotation->handle(request, std::move(handed), now);
            },
            say);
        server.control_with(*door);
    }
    for (auto& connection : *connections) server.add(std::move(connection));
    if (auto confined = confine(options); !confined) return confined;
    report.ready();
    server.run();
    return {};
}

}  // namespace

int main(int argc, char** argv) try {
    if (!os::fill_standard_descriptors()) return exit_code::kSystem;
    std::signal(SIGPIPE, SIG_IGN);
    po::variables_map given;
    try {
        po::store(po::command_line_parser(argc, argv).options(described()).run(), given);
        po::notify(given);
    } catch (const po::error& error) {
        say(std::string(error.what()) + " (see --help)");
        return exit_code::kUsage;
    }
    if (given.count("help") != 0) {
        std::cout << described();
        return exit_code::kOk;
    }
    if (given.count("version") != 0) {
        std::cout << "curvegate-vault " CURVEGATE_VERSION "\n";
        return exit_code::kOk;
    }
    const auto options = options_of(given);
    const Report report(given.count("descriptors") != 0 && is_seqpacket(kParent));
    const auto done = options ? run(*options, report) : Started<>(std::unexpected(options.error()));
    if (done) return exit_code::kOk;
    report.failed(done.error());
    return done.error().exit_code;
} catch (const std::exception& error) {
    say(error.what());
    return exit_code::kDefect;
}
