#include "daemon/audit_end.hpp"

#include "os/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace curvegate::daemon {

Result<AuditEnd> audit_end_of(int fd) {
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
    return AuditEnd{std::move(*tail), info.st_size};
}

}  // namespace curvegate::daemon
