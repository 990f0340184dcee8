#pragma once

#include "daemon/channel.hpp"
#include "daemon/parent/in_force.hpp"

#include <optional>
#include <string>

namespace curvegate::daemon::parent {

/// More keys than these are not revoked between two starts: it bounds what a front that was taken over can
/// have written to known_hosts.
inline constexpr std::size_t kMostRevoked = 10'000;

struct Revocation {
    int status;                       ///< exit status of the command
    std::optional<std::string> told;  ///< what is wrong, for whoever asked
};

/// Revokes keys, as the front asks: until the next start whatever becomes of the file, of this front and of
/// the configuration (`in_force`), and then by lines of known_hosts. Bytes that are no key are left out. The
/// status is 73 if the file could not be written: the command, who may be root, writes it itself then.
[[nodiscard]] Revocation revoke(const to_parent::Revoke& request, InForce& in_force);

}  // namespace curvegate::daemon::parent
