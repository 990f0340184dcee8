#pragma once

#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "daemon/loaded.hpp"

#include <expected>
#include <string>
#include <vector>

namespace curvegate::daemon::parent {

/// Reads the configuration file, those that it includes, and the known_hosts that it names. All must be
/// nobody else's to write.
[[nodiscard]] std::expected<Loaded, LoadFailure> load(const std::string& file);

/// Adds `@revoked` lines for these keys to the file, under its lock; keys that have one are left out. Error:
/// os system.
[[nodiscard]] Result<> write_revoked(const std::string& known_hosts,
                                     const std::vector<crypto::PublicKey>& keys);

}  // namespace curvegate::daemon::parent
