#include "daemon/front/audit_file.hpp"

#include "daemon/audit_end.hpp"

#include <unistd.h>

#include <cerrno>

namespace curvegate::daemon::front {

void AuditFile::open(os::UniqueFd fd) {
    fd_ = std::move(fd);
    knows_end_ = false;
}

Result<> AuditFile::resume() {
    if (knows_end_) return {};
    auto end = audit_end_of(fd_.get());
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

}  // namespace curvegate::daemon::front
