#include "os/outlet.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace curvegate::os {
namespace {

// A spliced line takes a page of the pipe for itself: 256 lines, where an ordinary pipe would hold 16.
constexpr int kSplicedRoom = 1 << 20;

bool is_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

bool is_same_file(const struct stat& one, const struct stat& other) {
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

Outlet::Outlet(int descriptor) : descriptor_(descriptor) {
    struct stat info{};
    if (::fstat(descriptor_, &info) != 0) return;
    if (S_ISSOCK(info.st_mode)) {
        way_ = Way::send;
        return;
    }
    const bool terminal = S_ISCHR(info.st_mode) && ::isatty(descriptor_) != 0;
    if (!S_ISFIFO(info.st_mode) && !terminal) return;  // a file or a device makes nobody wait for a reader
    if (open_again() || is_nonblocking(descriptor_)) return;
    way_ = terminal ? Way::poll : Way::splice;
    if (!terminal) open_splice();
}

// O_NONBLOCK belongs to an open file description, which others share; one that we open is ours alone.
bool Outlet::open_again() {
    const std::string path = "/proc/self/fd/" + std::to_string(descriptor_);
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat given{};
    struct stat opened{};
    if (!fd || ::fstat(descriptor_, &given) != 0 || ::fstat(fd.get(), &opened) != 0) return false;
    if (!is_same_file(given, opened)) return false;
    own_ = std::move(fd);
    descriptor_ = own_.get();
    return true;
}

void Outlet::open_splice() {
    int ends[2] = {-1, -1};
    const bool made = ::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0;  // without one every line is left out
    splice_out_.reset(made ? ends[0] : -1);
    splice_in_.reset(made ? ends[1] : -1);
    if (::fcntl(descriptor_, F_GETPIPE_SZ) < kSplicedRoom)
        (void)::fcntl(descriptor_, F_SETPIPE_SZ, kSplicedRoom);
}

void Outlet::after_fork() {
    if (way_ == Way::splice) open_splice();
}

bool Outlet::write(std::string_view line) {
    if (!rest_.empty()) rest_.erase(0, put(rest_));
    if (!rest_.empty()) return false;
    const std::size_t went = put(line);
    if (went == 0) return false;
    rest_ = line.substr(went);
    return true;
}

std::size_t Outlet::put(std::string_view bytes) {
    ssize_t wrote = 0;
    do wrote = put_once(bytes);
    while (wrote < 0 && errno == EINTR);
    return wrote > 0 ? static_cast<std::size_t>(wrote) : 0;
}

ssize_t Outlet::put_once(std::string_view bytes) {
    if (way_ == Way::send)
        return ::send(descriptor_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (way_ == Way::splice) return splice(bytes);
    pollfd room{descriptor_, POLLOUT, 0};
    if (way_ == Way::poll && ::poll(&room, 1, 0) <= 0) return 0;
    return ::write(descriptor_, bytes.data(), bytes.size());
}

// Between two pipes splice() does not wait if it is told so, whatever the description says.
ssize_t Outlet::splice(std::string_view bytes) {
    const ssize_t put = ::write(splice_in_.get(), bytes.data(), bytes.size());
    if (put <= 0) return put;
    const ssize_t moved = ::splice(splice_out_.get(), nullptr, descriptor_, nullptr,
                                   static_cast<std::size_t>(put), SPLICE_F_NONBLOCK);
    const int code = errno;
    std::array<char, 4096> left_over{};
    while (::read(splice_out_.get(), left_over.data(), left_over.size()) > 0) {
    }
    errno = code;
    return moved;
}

}  // namespace curvegate::os
