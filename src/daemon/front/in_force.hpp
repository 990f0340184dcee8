#pragma once

#include "config/config.hpp"
#include "registry/registry.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace curvegate::daemon::front {

/// What the front goes by now. Keys that have been revoked since the daemon's start stay so until its end,
/// whatever becomes of known_hosts: `registry` always has them as revoked.
struct InForce {
    std::shared_ptr<const config::Config> config;
    std::shared_ptr<const registry::Registry> registry;
    std::vector<crypto::PublicKey> revoked;
    std::uint32_t generation = 0;  ///< of the configuration

    /// From now on these are the peers.
    void peers_are(const registry::Registry& peers) {
        registry = std::make_shared<const registry::Registry>(peers.with_revoked(revoked));
    }
    void revoke(const std::vector<crypto::PublicKey>& keys) {
        const auto fresh = registry::add_missing(revoked, keys);
        registry = std::make_shared<const registry::Registry>(registry->with_revoked(fresh));
    }
};

}  // namespace curvegate::daemon::front
