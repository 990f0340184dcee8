#include "daemon/parent/audit_open.hpp"

#include "daemon/audit_end.hpp"
#include "os/file.hpp"

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace curvegate::daemon::parent {
namespace {

constexpr unsigned kLockWait = 2'000;  // milliseconds: a daemon that ends just now

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
    const auto end = audit_end_of(fd->get());
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

}  // namespace curvegate::daemon::parent
