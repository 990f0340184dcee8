#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace curvegate {

/// A peer's long-term public key: 32 bytes, canonical and not of low order.
struct PeerKey {
    std::array<std::uint8_t, 32> bytes{};
    friend auto operator<=>(const PeerKey&, const PeerKey&) = default;

    /// Base64, 44 characters.
    [[nodiscard]] std::string text() const;
    /// From base64, hex or Z85; nothing if it is not a key that may be used.
    [[nodiscard]] static std::optional<PeerKey> parse(std::string_view text);
};

}  // namespace curvegate
