#pragma once

#include "crypto/keys.hpp"
#include "daemon/loaded.hpp"

#include <cstdint>
#include <vector>

namespace curvegate::daemon::parent {

/// What the daemon goes by now. A reload changes it as a whole or not at all, and each new front is born with
/// it.
struct InForce {
    Loaded loaded;
    std::size_t workers;           ///< as at the start: a reload does not change that
    std::uint32_t generation = 1;  ///< of the configuration: counted up by each reload
    // GCC misses it in shorter lists without. NOLINTNEXTLINE(readability-redundant-member-init)
    std::vector<crypto::PublicKey> revoked{};  ///< since the start, whatever becomes of the file

    [[nodiscard]] const config::Config& config() const { return *loaded.config; }
};

}  // namespace curvegate::daemon::parent
