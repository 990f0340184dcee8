#pragma once

#include <string_view>

namespace curvegate::wire {

/// Every code is a peer fault: close the connection (tcp) or drop the packet (udp).
enum class Errc {
    wrong_length = 1,  ///< not the exact length of the packet its place allows
    wrong_magic,       ///< not the packet its place allows
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "wire";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::wrong_length: return "packet has the wrong length";
        case Errc::wrong_magic: return "not a curve_tun packet";
    }
    return "unknown";
}

}  // namespace curvegate::wire
