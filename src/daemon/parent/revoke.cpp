#include "daemon/parent/revoke.hpp"

#include "base/exit_code.hpp"
#include "daemon/parent/load.hpp"
#include "log/log.hpp"

#include <cstdlib>

namespace curvegate::daemon::parent {

Revocation revoke(const to_parent::Revoke& request, InForce& in_force) {
    std::vector<crypto::PublicKey> keys;
    for (const auto& bytes : request.keys) {
        if (auto key = crypto::PublicKey::parse(bytes)) keys.push_back(*key);
    }
    auto revoked = in_force.revoked;
    (void)registry::add_missing(revoked, keys);
    if (revoked.size() > kMostRevoked)
        return {EXIT_FAILURE, "too many keys have been revoked since the start"};
    in_force.revoked = std::move(revoked);
    const auto written = write_revoked(in_force.config().known_hosts, keys);
    if (written) return {EXIT_SUCCESS, std::nullopt};
    log::event(log::Level::error, "revoke_not_written", {{"reason", written.error().text()}});
    return {exit_code::kCannotCreate, written.error().text() + "; revoked until restart"};
}

}  // namespace curvegate::daemon::parent
