#include "cli/secrets.hpp"

#include "crypto/secret.hpp"
#include "os/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
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

HiddenTerminal::HiddenTerminal() : fd_(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)) {
    if (!fd_ || ::tcgetattr(fd_.get(), &before_) != 0) return;
    termios mute = before_;
    mute.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | ISIG);
    mute.c_cc[VMIN] = 1;
    mute.c_cc[VTIME] = 0;
    good_ = ::tcsetattr(fd_.get(), TCSADRAIN, &mute) == 0;
}

HiddenTerminal::~HiddenTerminal() {
    if (good_) ::tcsetattr(fd_.get(), TCSADRAIN, &before_);
}

bool HiddenTerminal::ask(std::string_view question, WipedBuffer& into) {
    if (!good_ || !os::write_all(fd_.get(), as_bytes(question), "/dev/tty")) return false;
    const bool answered = read_line(fd_.get(), into);
    return os::write_all(fd_.get(), as_bytes("\n"), "/dev/tty") && answered;
}

}  // namespace curvegate::cli
