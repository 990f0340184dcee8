#include "daemon/parent/revoke.hpp"

#include "daemon/parent/load.hpp"
#include "log/log.hpp"

#include <cstdlib>

namespace curvegate::daemon::parent {
namespace {

constexpr int kNotWritten = 73;  // EX_CANTCREAT

}  // namespace

Revocation revoke(const to_parent::Revoke& request, InForce& in_force) {
    std::vector<crypto::PublicKey> keys;
    for (const auto& bytes : request.keys) {
        if (auto key = crypto::PublicKey::parse(bytes)) keys.push_back(*key);
    }
    if (in_force.revoked.size() + keys.size() > kMostRevoked)
        return {EXIT_FAILURE, "too many keys have been revoked since the start"};
    in_force.revoked.insert(in_force.revoked.end(), keys.begin(), keys.end());
    const auto written = write_revoked(in_force.config().known_hosts, keys);
    if (written) return {EXIT_SUCCESS, std::nullopt};
    log::event(log::Level::error, "revoke_not_written", {{"reason", written.error().text()}});
    return {kNotWritten, written.error().text() + "; revoked until restart"};
}

}  // namespace curvegate::daemon::parent
