#pragma once

#include <string_view>

namespace curvegate::crypto {

/// What each code means to the caller is in its comment; describe() gives the words.
enum class Errc {
    weak_key = 1,       ///< peer fault: a public key that is not canonical or of low order. Drop or close.
    box_does_not_open,  ///< peer fault: wrong key, or changed on the way. Drop or close.
    bad_key_text,       ///< user fault: not 32 bytes in base64, hex or Z85. Refuse to start.
    secrets_full,       ///< our lack: no slot of locked memory left. Refuse the connection.
    memory_not_locked,  ///< our lack: the pages of secrets cannot be locked. Refuse to start, or warn.
    no_library,         ///< our lack: libsodium does not start. Refuse to start.
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "crypto";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::weak_key: return "public key is not canonical or is of low order";
        case Errc::box_does_not_open: return "box does not open";
        case Errc::bad_key_text:
            return "not a key: want 32 bytes as base64 (44 characters), hex (64) or Z85 (40)";
        case Errc::secrets_full: return "no locked memory left for secrets (raise the memlock limit)";
        case Errc::memory_not_locked:
            return "memory for secrets cannot be locked (raise the memlock limit, or set lock-memory = try)";
        case Errc::no_library: return "libsodium cannot be initialised";
    }
    return "unknown";
}

}  // namespace curvegate::crypto
