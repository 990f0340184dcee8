#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <string>

namespace curvegate::vault {

/// A listening, non-blocking SOCK_SEQPACKET socket at `path`, mode 0660. A socket that stands there and that
/// nobody serves (connecting is refused) is what a vault before left behind, and is removed; anything else
/// stays and is an error.
[[nodiscard]] Result<os::UniqueFd> listen_at(const std::string& path);

}  // namespace curvegate::vault
