#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace curvegate::os {

enum class ActivationErrc {
    malformed = 1,  ///< refuse to start (69): LISTEN_FDS and LISTEN_FDNAMES say what cannot be, so whoever
                    ///< started us is at fault
};
[[nodiscard]] constexpr std::string_view layer_name(ActivationErrc) {
    return "activation";
}
[[nodiscard]] constexpr std::string_view describe(ActivationErrc) {
    return "the service manager's list of sockets cannot be read";
}

/// What a socket that was passed can do.
enum class PassedKind {
    tcp_listener,
    unix_listener,  ///< a stream
    udp,
    other,  ///< connected, of packets, of another family, or no socket at all
};
[[nodiscard]] std::string_view describe(PassedKind kind);

/// A socket that the service manager opened for us.
struct PassedSocket {
    std::string name;  ///< FileDescriptorName= of its unit; "unknown" if nobody named it
    PassedKind kind = PassedKind::other;
    UniqueFd fd;  ///< non-blocking, close-on-exec
};

/// The variables of the environment, as they are (sd_listen_fds(3)); empty: not set.
struct ListenVariables {
    std::string pid;
    std::string fds;
    std::string names;
};
/// The names of the descriptors that were passed to the process `pid`, from descriptor 3 on; none if they are
/// for another. Error: malformed.
[[nodiscard]] Result<std::vector<std::string>> passed_names(const ListenVariables& variables, int pid);

/// Takes over what was passed to this process, by sd_listen_fds(3)'s protocol, and takes the variables out of
/// the environment. Call before anything is opened and before the first thread. Errors: malformed, os system
/// (a descriptor is not open).
[[nodiscard]] Result<std::vector<PassedSocket>> take_passed_sockets();

}  // namespace curvegate::os
