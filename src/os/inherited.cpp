#include "os/inherited.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace curvegate::os {

bool fill_standard_descriptors() noexcept {
    constexpr std::array kStandard = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    return std::ranges::all_of(kStandard, [](int fd) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) return true;
        return ::open("/dev/null", O_RDWR) == fd;  // the lowest that is free
    });
}

void close_descriptors_from(int first) noexcept {
    (void)::close_range(static_cast<unsigned>(first), ~0U, 0);
}

void clear_environment() noexcept {
    for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
        ::explicit_bzero(*variable, std::strlen(*variable));
    (void)::clearenv();
}

}  // namespace curvegate::os
