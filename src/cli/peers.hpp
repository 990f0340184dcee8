#pragma once

#include <string>

namespace curvegate::cli {

/// Writes @revoked lines for KEY, or for all keys of NAME, into the known_hosts file `path`, and says so. The
/// exit code; what went wrong is told.
[[nodiscard]] int revoke_in_file(const std::string& word, const std::string& path);

}  // namespace curvegate::cli
