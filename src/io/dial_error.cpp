#include "io/dial_error.hpp"

#include <cerrno>
#include <cstring>

namespace curvegate::io {

bool is_own_lack(int code) noexcept {
    return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
}

std::unexpected<Error> fail_dial(const std::string& where, int code) {
    return fail(is_own_lack(code) ? DialErrc::own_lack : DialErrc::refused,
                where + ": " + std::strerror(code));
}

}  // namespace curvegate::io
