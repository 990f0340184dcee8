#pragma once

namespace curvegate::session {

/// Which end of the handshake we were; it decides the nonce of each direction.
enum class Role { client, server };

}  // namespace curvegate::session
