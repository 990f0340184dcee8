#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <string>

namespace curvegate::vault {

enum class SocketMode : unsigned { group = 0660, owner = 0600 };

/// A listening, non-blocking SOCK_SEQPACKET socket at `path`. A socket that stands there and that
/// nobody serves (connecting is refused) is what a vault before left behind, and is removed; anything else
/// stays and is an error.
[[nodiscard]] Result<os::UniqueFd> listen_at(const std::string& path, SocketMode mode = SocketMode::group);

}  // namespace curvegate::vault
