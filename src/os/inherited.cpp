#include "os/inherited.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace curvegate::os {

bool fill_standard_descriptors() noexcept {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        if (::open("/dev/null", O_RDWR) != fd) return false;  // the lowest that is free
    }
    return true;
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
