#pragma once

#include "base/random.hpp"
#include "cookie/keeper.hpp"
#include "crypto/secret.hpp"
#include "handshake/machine.hpp"
#include "stream/chunks.hpp"
#include "vault_client/vault_client.hpp"

#include <functional>
#include <optional>
#include <string>

namespace curvegate::tunnel {

/// What a handshake borrows from its worker; all of it outlives the handshake.
struct HandshakeTools {
    vault_client::VaultClient* vault;
    cookie::Keeper* keeper;  ///< servers only
    crypto::SecretPool* pool;
    RandomSource* random;
    stream::ChunkSource* chunks;  ///< of streams over udp; outlives them
    handshake::Timeouts timeouts;
};

/// Asks whether this key may in. Returns nullopt if it may, and otherwise the reason for the log.
using AuthoriseFn = std::move_only_function<std::optional<std::string>(const crypto::PublicKey&)>;

}  // namespace curvegate::tunnel
