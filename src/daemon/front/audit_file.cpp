#include "daemon/front/audit_file.hpp"

#include "audit/tail.hpp"
#include "os/file.hpp"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace curvegate::daemon {
namespace {

constexpr unsigned kLockWait = 2'000;  // milliseconds: a daemon that ends just now

struct End {
    audit::Tail tail;
    off_t size = 0;
};

Result<End> end_of(int fd) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) return os::fail_errno("stat");
    const auto size = static_cast<std::size_t>(info.st_size);
    std::string bytes(std::min(size, audit::kTailWindow), '\0');
    const std::size_t from = size - bytes.size();
    for (std::size_t have = 0; have < bytes.size();) {
        const ssize_t got =
            ::pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(from + have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return os::fail_errno("read");
        have += static_cast<std::size_t>(got);
    }
    auto tail = audit::read_tail(bytes, from == 0 ? audit::Window::whole_file : audit::Window::end_of_it);
    if (!tail) return fail(std::move(tail));
    return End{std::move(*tail), info.st_size};
}

}  // namespace

Result<os::UniqueFd> open_audit(const std::string& path) {
    const std::string what = "audit = " + path;
    auto fd = os::open_append_checked(path, os::Privacy::trusted);
    if (!fd) return fail(os::Errc::system, "audit: " + fd.error().detail());
    constexpr unsigned kStep = 20;
    for (unsigned waited = 0; ::flock(fd->get(), LOCK_EX | LOCK_NB) != 0; waited += kStep) {
        if (errno != EWOULDBLOCK && errno != EINTR) return os::fail_errno(what);
        if (waited >= kLockWait)
            return fail(os::Errc::system, what + ": another daemon writes it; give each a file of its own");
        ::usleep(kStep * 1'000);
    }
    const auto end = end_of(fd->get());
    if (end) return std::move(*fd);
    return fail(os::Errc::system, what + ": its last line: " + end.error().text() +
                                      " (curvegate audit verify says more; move the file away, and a new "
                                      "one begins)");
}

bool is_same_file(int fd, const std::string& path) {
    struct stat one{};
    struct stat other{};
    return ::fstat(fd, &one) == 0 && ::stat(path.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

void AuditFile::open(os::UniqueFd fd) {
    fd_ = std::move(fd);
    knows_end_ = false;
}

Result<> AuditFile::resume() {
    if (knows_end_) return {};
    auto end = end_of(fd_.get());
    if (!end) return fail(std::move(end));
    const auto torn = static_cast<off_t>(end->tail.torn);
    if (torn != 0 && ::ftruncate(fd_.get(), end->size - torn) != 0) return os::fail_errno("truncate");
    torn_ += end->tail.torn;
    if (end->tail.last) last_ = std::move(*end->tail.last);
    knows_end_ = true;
    return {};
}

Result<> AuditFile::append(const audit::Entry& entry, WallTime at) {
    if (auto resumed = resume(); !resumed) return resumed;
    auto line = audit::line_after(last_, entry, at);
    line.text += '\n';
    ssize_t wrote = -1;
    do {
        wrote = ::write(fd_.get(), line.text.data(), line.text.size());
    } while (wrote < 0 && errno == EINTR);
    if (wrote == static_cast<ssize_t>(line.text.size())) {
        last_ = std::move(line.link);
        return {};
    }
    if (wrote < 0) return os::fail_errno("write");
    knows_end_ = false;
    const std::size_t before = torn_;
    if (auto resumed = resume(); !resumed) return resumed;
    torn_ = before;  // this one was ours, and counts as lost
    return fail(os::Errc::system, "write: no room for a whole line");
}

}  // namespace curvegate::daemon
