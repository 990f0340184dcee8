#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/peers.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"
#include "config/control_protocol.hpp"
#include "os/connect_unix.hpp"
#include "os/file.hpp"
#include "os/socket.hpp"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

/// The verbs that a running daemon answers over its control socket (docs/CONTROL.md).
namespace curvegate::cli {
namespace {

constexpr std::chrono::seconds kConnectPatience{5};
constexpr std::chrono::seconds kAnswerPatience{30};

/// The socket that --socket names, or the `control` of a configuration, the rest of which may be broken.
Outcome<std::string> socket_path(const Options& options) {
    if (options.has("socket")) return options.get("socket");
    const std::string file = options.has("config") ? options.get("config") : default_config();
    const auto text = read_config(file);
    if (!text) return std::unexpected(text.error());
    if (auto path = config::find_global(*text, "control")) return *path;
    return std::unexpected(
        complain(exit_code::kConfig, file + " has no control = PATH; set one and restart, or use --socket"));
}

Outcome<os::UniqueFd> connect_to(const std::string& path) {
    auto fd = os::connect_unix(path, SOCK_STREAM, kConnectPatience);
    if (fd) return std::move(*fd);
    const int code = fd.error();
    if (code == ENAMETOOLONG)
        return std::unexpected(complain(exit_code::kUsage, path + ": too long for a socket's path"));
    if (code == EAGAIN) {
        return std::unexpected(
            complain(exit_code::kUnavailable, path + ": the daemon takes no connection; does it hang?"));
    }
    const bool refused = code == EACCES || code == EPERM;
    const std::string hint =
        refused ? " (root, the daemon's user, control-group, and for the status status-group may)"
                : " (is the daemon running, and does it have this control socket?)";
    return std::unexpected(complain(refused ? exit_code::kNoPermission : exit_code::kUnavailable,
                                    path + ": " + std::strerror(code) + hint));
}

/// Does the answer come at once, or as things happen?
enum class Answer { soon, as_it_happens };

// After so long without a byte of the answer, recv() gives EAGAIN.
void limit_wait(int fd, Answer answer) {
    if (answer == Answer::as_it_happens) return;
    const timeval limit{kAnswerPatience.count(), 0};
    (void)::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

bool send_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
}

/// Lines of a stream socket, one after the other.
class Lines {
  public:
    explicit Lines(int fd) : fd_(fd) {}
    /// Returns nullopt if there will be no more; errno is EAGAIN then if none came in time, else 0.
    std::optional<std::string> next() {
        for (;;) {
            if (const auto end = buffer_.find('\n', searched_); end != std::string::npos) {
                std::string line = buffer_.substr(0, end);
                buffer_.erase(0, end + 1);
                searched_ = 0;
                return line;
            }
            searched_ = buffer_.size();
            std::array<char, 16'384> part{};
            const ssize_t got = ::recv(fd_, part.data(), part.size(), 0);
            if (got < 0 && errno == EINTR) continue;
            if (got == 0) errno = 0;
            if (got <= 0) return std::nullopt;
            buffer_.append(part.data(), static_cast<std::size_t>(got));
        }
    }

  private:
    int fd_;
    std::string buffer_;
    std::size_t searched_ = 0;  // of the buffer: no end of a line is there
};

/// Asks and shows the answer as it comes; the exit status of the command.
int ask(const std::string& path, const std::string& request, std::string* collected = nullptr,
        Answer answer = Answer::soon) {
    const auto fd = connect_to(path);
    if (!fd) return fd.error();
    if (!send_all(fd->get(), std::string(config::kControlGreeting) + ' ' +
                                 std::string(config::kControlVersion) + ' ' + request + '\n'))
        return complain(exit_code::kUnavailable, path + ": the daemon closed the connection");
    limit_wait(fd->get(), answer);
    Lines lines(fd->get());
    while (const auto line = lines.next()) {
        using Kind = config::ControlAnswer::Kind;
        const auto said = config::parse_control_answer(*line);
        if (said.kind == Kind::end) return said.status;
        if (said.kind == Kind::err) (void)complain(exit_code::kFailed, std::string(said.text));
        if (said.kind != Kind::out) continue;
        if (collected != nullptr) {
            (*collected += said.text) += '\n';
        } else {
            print(said.text);
            if (const int code = finish_output(); code != exit_code::kOk) return code;
        }
    }
    if (errno == EAGAIN) {
        return complain(exit_code::kUnavailable, path + ": no answer for " +
                                                     std::to_string(kAnswerPatience.count()) +
                                                     " s; does the daemon hang? Its log may tell");
    }
    return complain(exit_code::kUnavailable,
                    path + ": the daemon went away, or refused us, before it had answered");
}

Options& with_places(Options& options) {
    return options.value("config,c", "FILE", "the daemon's configuration (default: the usual one)")
        .value("socket", "PATH", "its control socket, whatever the configuration says");
}

/// Below a watch.
constexpr std::string_view kLegend =
    "Ctrl-C ends this. IN: from the tunnel to the application. OUT: the other way.";

struct Size {
    unsigned width = 80;
    unsigned height = 24;
};
std::optional<Size> terminal() {
    winsize size{};
    if (::isatty(STDOUT_FILENO) == 0 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return std::nullopt;
    if (size.ws_col == 0 || size.ws_row < 3) return Size{};
    return Size{size.ws_col, size.ws_row};
}

/// Lets a signal end a watch at once, whatever it waits for, and give the terminal its cursor back. A thread
/// takes the signal: a handler would have to be careful about everything that it calls.
void end_watch_by_signal() {
    sigset_t signals{};
    ::sigemptyset(&signals);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals, number);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread([signals] {
        constexpr std::string_view kShowCursor = "\033[?25h\n";
        int number = 0;
        ::sigwait(&signals, &number);
        (void)!::write(STDOUT_FILENO, kShowCursor.data(), kShowCursor.size());
        ::_exit(number == SIGINT ? exit_code::kOk : 128 + number);
    }).detach();
}

// Redraws in place; ^C ends it.
int watch(const std::string& path) {
    const auto first = terminal();
    if (!first) return complain(exit_code::kUsage, "--watch needs a terminal");
    end_watch_by_signal();
    print("\033[?25l\033[2J");
    int status = exit_code::kOk;
    while (status == exit_code::kOk) {
        const Size size = terminal().value_or(*first);
        std::string screen;
        status =
            ask(path, "status watch " + std::to_string(size.width) + ' ' + std::to_string(size.height - 2),
                &screen);
        if (status != exit_code::kOk) break;
        screen += std::string(kLegend.substr(0, size.width)) + '\n';
        std::string drawn = "\033[H";
        for (const char c : screen) drawn += c == '\n' ? std::string("\033[K\n") : std::string(1, c);
        print(drawn + "\033[J\033[A");
        if (status = finish_output(); status != exit_code::kOk) break;
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    print("\033[?25h");
    return status;
}

/// Writes what the daemon may not write but the user of this command may. The path comes from the
/// configuration that the command reads itself: root must not write where a daemon tells it to.
int write_revocation(const Options& options, const std::string& word) {
    const auto text = read_config(options.has("config") ? options.get("config") : default_config());
    const auto file = text ? config::find_global(*text, "known-hosts") : std::nullopt;
    if (file && revoke_in_file(word, *file) == exit_code::kOk) {
        print("written to " + *file);
        return finish_output();
    }
    return complain(exit_code::kFailed,
                    "revoked until the daemon is restarted; to keep it so, as a user who may write there: "
                    "curvegate peers revoke KEY|NAME --known-hosts " +
                        file.value_or("FILE"));
}

}  // namespace

int status(const Verb& self, const Arguments& arguments) {
    Options options(self);
    with_places(options)
        .flag("json", "one JSON object")
        .flag("watch,w", "a table that is drawn again every second");
    if (const auto end = options.parse(arguments)) return *end;
    const auto path = socket_path(options);
    if (!path) return path.error();
    if (options.has("json")) return ask(*path, "status json");
    if (options.has("watch")) return watch(*path);
    const auto size = terminal();
    return ask(*path, "status text " + std::to_string(size ? size->width : 0));
}

int reload(const Verb& self, const Arguments& arguments) {
    Options options(self);
    with_places(options);
    if (const auto end = options.parse(arguments)) return *end;
    const auto path = socket_path(options);
    return path ? ask(*path, "reload") : path.error();
}

int revoke(const Verb& self, const Arguments& arguments) {
    Options options(self);
    with_places(options).operands(1, 1);
    if (const auto end = options.parse(arguments)) return *end;
    const std::string& word = options.operands().front();
    if (word.find_first_of(" \t\n") != std::string::npos)
        return options.usage_error("a key or a name has no blanks");
    const auto path = socket_path(options);
    if (!path) return path.error();
    const int status = ask(*path, "revoke " + word);
    return status == exit_code::kCannotCreate ? write_revocation(options, word) : status;
}

int drain(const Verb& self, const Arguments& arguments) {
    Options options(self);
    with_places(options);
    if (const auto end = options.parse(arguments)) return *end;
    const auto path = socket_path(options);
    return path ? ask(*path, "drain") : path.error();
}

int events(const Verb& self, const Arguments& arguments) {
    Options options(self);
    with_places(options);
    if (const auto end = options.parse(arguments)) return *end;
    const auto path = socket_path(options);
    return path ? ask(*path, "events", nullptr, Answer::as_it_happens) : path.error();
}

}  // namespace curvegate::cli
