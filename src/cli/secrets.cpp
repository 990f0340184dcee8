#include "cli/secrets.hpp"

#include "crypto/secret.hpp"
#include "os/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace curvegate::cli {
namespace {

constexpr Byte kCtrlC = 3;
constexpr Byte kCtrlD = 4;
constexpr Byte kBackspace = 8;
constexpr Byte kCtrlU = 21;
constexpr Byte kDelete = 127;

/// A terminal without echo, line editing and signals, as long as it lives: a Ctrl-C that ended the program
/// would leave the terminal mute.
class MuteTerminal {
  public:
    explicit MuteTerminal(int fd) noexcept : fd_(fd), good_(::tcgetattr(fd, &before_) == 0) {
        if (!good_) return;
        termios mute = before_;
        mute.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | ISIG);
        mute.c_cc[VMIN] = 1;
        mute.c_cc[VTIME] = 0;
        good_ = ::tcsetattr(fd, TCSAFLUSH, &mute) == 0;
    }
    ~MuteTerminal() {
        if (good_) ::tcsetattr(fd_, TCSAFLUSH, &before_);
    }
    MuteTerminal(const MuteTerminal&) = delete;
    MuteTerminal& operator=(const MuteTerminal&) = delete;
    [[nodiscard]] bool good() const noexcept { return good_; }

  private:
    int fd_;
    termios before_{};
    bool good_;
};

bool read_line(int fd, WipedBuffer& into) {
    std::size_t used = 0;
    while (true) {
        Byte byte = 0;
        const ssize_t got = ::read(fd, &byte, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0 || byte == kCtrlC || byte == kCtrlD) return false;
        if (byte == '\n' || byte == '\r') break;
        if (byte == kDelete || byte == kBackspace) {
            if (used > 0) --used;
        } else if (byte == kCtrlU) {
            used = 0;
        } else if (used == into.room().size()) {
            return false;
        } else {
            into.room()[used++] = byte;
        }
    }
    into.set_used(used);
    return true;
}

}  // namespace

WipedBuffer::WipedBuffer(std::size_t size) : bytes_(std::make_unique<Byte[]>(size)), size_(size) {
    // Best effort: the daemon's and the vault's secrets are guarded in earnest, this process ends at once.
    static_cast<void>(::mlock(bytes_.get(), size_));
}

WipedBuffer::~WipedBuffer() {
    crypto::wipe(room());
    ::munlock(bytes_.get(), size_);
}

std::string_view WipedBuffer::trimmed() noexcept {
    constexpr std::string_view kSpace = " \t\r\n";
    auto all = text();
    all.remove_prefix(std::min(all.find_first_not_of(kSpace), all.size()));
    return all.substr(0, all.find_last_not_of(kSpace) + 1);
}

Result<> read_secret(int fd, std::string_view name, WipedBuffer& into) {
    std::size_t used = 0;
    while (used < into.room().size()) {
        const auto rest = into.room().subspan(used);
        const ssize_t got = ::read(fd, rest.data(), rest.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return os::fail_errno("read " + std::string(name));
        if (got == 0) {
            into.set_used(used);
            return {};
        }
        used += static_cast<std::size_t>(got);
    }
    return fail(os::Errc::system, std::string(name) + " is too long for a key");
}

bool ask_hidden(std::string_view question, WipedBuffer& into) {
    const os::UniqueFd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
    if (!terminal) return false;
    const MuteTerminal mute(terminal.get());
    if (!mute.good() || !os::write_all(terminal.get(), as_bytes(question), "/dev/tty")) return false;
    const bool answered = read_line(terminal.get(), into);
    return os::write_all(terminal.get(), as_bytes("\n"), "/dev/tty") && answered;
}

}  // namespace curvegate::cli
