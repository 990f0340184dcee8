#include "vault/passphrase.hpp"

#include "os/file.hpp"
#include "vault/locked_buffer.hpp"
#include "vault/private_file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace curvegate::vault {
namespace {

/// Takes echo off a terminal until it is destroyed.
class QuietTerminal {
  public:
    explicit QuietTerminal(int fd) noexcept : fd_(fd), changed_(::tcgetattr(fd, &before_) == 0) {
        if (!changed_) return;
        termios quiet = before_;
        quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        changed_ = ::tcsetattr(fd_, TCSAFLUSH, &quiet) == 0;
    }
    ~QuietTerminal() {
        if (changed_) ::tcsetattr(fd_, TCSAFLUSH, &before_);
    }
    QuietTerminal(const QuietTerminal&) = delete;
    QuietTerminal& operator=(const QuietTerminal&) = delete;
    [[nodiscard]] bool quiet() const noexcept { return changed_; }

  private:
    int fd_;
    termios before_{};
    bool changed_;
};

std::string problem_text(const FileProblem& problem) {
    switch (problem.fault) {
        case FileFault::missing: return problem.detail + ": no such passphrase file";
        case FileFault::denied:
        case FileFault::unreadable: return problem.detail + ": the passphrase file cannot be read";
        case FileFault::not_regular: return problem.detail + ": the passphrase file is not a regular file";
        case FileFault::wrong_owner: return problem.detail + ": the passphrase file belongs to somebody else";
        case FileFault::wrong_mode:
            return problem.detail + ": the passphrase file is open to others; chmod 600 it";
    }
    return problem.detail;
}

/// Of a line that lacks its newline.
enum class EndOfFile { breaks_it_off, ends_it };

/// Copies the first line of what `fd` gives to `out`. Returns its length, or nullopt if it is empty, too
/// long, or broken off.
std::optional<std::size_t> first_line(int fd, MutableBytes out, EndOfFile end_of_file) {
    const bool needs_newline = end_of_file == EndOfFile::breaks_it_off;
    const LockedBuffer line(out.size() + 1);
    std::size_t length = 0;
    while (length < line.bytes().size()) {
        const ssize_t got = ::read(fd, line.bytes().data() + length, line.bytes().size() - length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::nullopt;
        if (got == 0) break;
        length += static_cast<std::size_t>(got);
        if (needs_newline && line.bytes()[length - 1] == '\n') break;  // a terminal gives a line at a time
    }
    const auto text = line.bytes().first(length);
    const auto end = std::ranges::find(text, Byte{'\n'});
    if (end == text.end() && (needs_newline || length > out.size())) return std::nullopt;
    const auto size = static_cast<std::size_t>(end - text.begin());
    if (size == 0) return std::nullopt;
    std::ranges::copy(text.first(size), out.begin());
    return size;
}

/// Returns nullopt if there is no terminal, or `give_up` became readable first, or nothing was typed;
/// `problem` is set in the last two cases and left as it is in the first.
std::optional<std::size_t> from_terminal(const std::string& what, int give_up, MutableBytes out,
                                         std::string& problem) {
    const os::UniqueFd terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
    // In the background nobody could answer, and touching the terminal would stop this process.
    if (!terminal || ::tcgetpgrp(terminal.get()) != ::getpgrp()) return std::nullopt;
    const QuietTerminal quiet(terminal.get());
    if (!quiet.quiet()) return std::nullopt;
    const std::string prompt = "Passphrase for " + what + ": ";
    if (!os::write_all(terminal.get(), as_bytes(prompt), "/dev/tty")) return std::nullopt;
    std::array<pollfd, 2> waits = {pollfd{terminal.get(), POLLIN, 0}, pollfd{give_up, POLLIN, 0}};
    while (::poll(waits.data(), waits.size(), -1) < 0 && errno == EINTR) continue;
    std::optional<std::size_t> size;
    problem = "no passphrase was typed";
    if (waits[1].revents == 0) size = first_line(terminal.get(), out, EndOfFile::breaks_it_off);
    (void)os::write_all(terminal.get(), as_bytes("\n"), "/dev/tty");
    return size;
}

}  // namespace

std::optional<std::size_t> Passphrases::ask(const std::string& what, MutableBytes out) {
    problem_.clear();
    typed_ = false;
    const bool from_file = !sources_.file.empty();
    const std::string& path = from_file ? sources_.file : sources_.credential;
    if (path.empty()) {
        const auto size = from_terminal(what, sources_.give_up, out, problem_);
        typed_ = size.has_value();
        return size;
    }
    const auto fd = open_private(path, O_RDONLY, from_file ? FileKind::own : FileKind::credential);
    if (!fd) {
        problem_ = problem_text(fd.error());
        return std::nullopt;
    }
    const auto size = first_line(fd->get(), out, EndOfFile::ends_it);
    if (!size) {
        problem_ =
            path + ": want a passphrase of 1 to " + std::to_string(out.size()) + " bytes in the first line";
    }
    return size;
}

}  // namespace curvegate::vault
