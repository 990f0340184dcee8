#include "os/descriptors.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>

namespace curvegate::os {
namespace {

std::atomic<std::uint64_t>& first_kept_back() {
    static std::atomic<std::uint64_t> first{UINT64_MAX};
    return first;
}

}  // namespace

std::uint64_t descriptor_limit() {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : 0;
}

void keep_descriptors_back() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    first_kept_back() = limit.rlim_cur - kept_back(limit.rlim_cur);
}

bool is_kept_back(int fd) noexcept {
    return fd >= 0 && static_cast<std::uint64_t>(fd) >= first_kept_back();
}

UniqueFd socket_for_session(int family, int type) noexcept {
    UniqueFd fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!is_kept_back(fd.get())) return fd;
    fd.reset();
    errno = EMFILE;
    return fd;
}

bool has_room_for_session(int any) noexcept {
    const UniqueFd next(::fcntl(any, F_DUPFD_CLOEXEC, 0));
    return next && !is_kept_back(next.get());
}

}  // namespace curvegate::os
