#pragma once

#include "vault/key_file.hpp"
#include "vault/protocol/protocol.hpp"

#include <array>
#include <optional>
#include <utility>
#include <variant>

namespace curvegate::vault {

/// When a request is answered.
enum class Turn {
    prompt,  ///< a peer that has proved something, or ourselves, waits for it
    hello,   ///< any stranger can cause it: after all others, and the newest first
};

/// What one verb may do (PROTOCOL 6.5). Service asks the table before it looks at a request; a verb without a
/// row does not compile there.
struct Permission {
    Verb verb;
    std::optional<KeyRole> role;  ///< the role of the key it works with; nothing: either
    bool rate_limited;
    Turn turn;
};

/// The key of one role never does the other's work: crypto_box is symmetric, so a vault that both made and
/// opened vouches with one key would let a hijacked daemon forge any client's vouch to itself.
inline constexpr std::array kPermissions = {
    Permission{Verb::answer_hello, KeyRole::server, false, Turn::hello},
    Permission{Verb::make_vouch, KeyRole::client, true, Turn::prompt},
    Permission{Verb::open_vouch, KeyRole::server, false, Turn::prompt},
    Permission{Verb::public_key, std::nullopt, false, Turn::prompt},
};

[[nodiscard]] constexpr const Permission& permission_of(Verb verb) {
    for (const Permission& permission : kPermissions) {
        if (permission.verb == verb) return permission;
    }
    std::unreachable();  // parse_request gives listed verbs only
}

[[nodiscard]] constexpr KeyRole role_of(KeySlot slot) {
    return static_cast<Byte>(slot) < 128 ? KeyRole::server : KeyRole::client;
}

}  // namespace curvegate::vault
