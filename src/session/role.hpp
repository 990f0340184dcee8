#pragma once

#include "crypto/nonce.hpp"

namespace curvegate::session {

/// Which end of the handshake we were; it decides the keys and nonces of each direction.
enum class Role { client, server };

[[nodiscard]] constexpr Role other(Role end) noexcept {
    return end == Role::client ? Role::server : Role::client;
}

/// What the boxes are that this end sends.
[[nodiscard]] constexpr crypto::ShortPurpose messages_of(Role sender) noexcept {
    return sender == Role::client ? crypto::ShortPurpose::client_message
                                  : crypto::ShortPurpose::server_message;
}

}  // namespace curvegate::session
