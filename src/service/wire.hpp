#pragma once

#include "curvegate/wire.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

/// What a service is, in the words that the configuration, the daemon and the command share: each word and
/// each default stands here once. No I/O.
namespace curvegate::service {

/// What the packets of a tunnel are sent by.
enum class Transport : std::uint8_t { tcp, udp };

using curvegate::Wire;  // the library's users name it too

inline constexpr std::array kWires = {Wire::curve_tun, Wire::curvecp};

/// The word of a wire: before an address (`curve_tun:HOST:PORT`), and wherever a wire is shown.
[[nodiscard]] constexpr std::string_view word(Wire wire) noexcept {
    return wire == Wire::curve_tun ? "curve_tun" : "curvecp";
}
[[nodiscard]] constexpr Transport transport_of(Wire wire) noexcept {
    return wire == Wire::curve_tun ? Transport::tcp : Transport::udp;
}

/// Does a client of this wire say which service it wants? Then several may share an address.
[[nodiscard]] constexpr bool names_services(Wire wire) noexcept {
    return wire == Wire::curvecp;
}

/// The wire that an address begins with, or nullopt if the text before its first colon is no wire's word.
[[nodiscard]] constexpr std::optional<Wire> wire_before(std::string_view address) noexcept {
    for (const Wire wire : kWires) {
        if (address.substr(0, address.find(':')) == word(wire) && address.contains(':')) return wire;
    }
    return std::nullopt;
}

}  // namespace curvegate::service
