#pragma once

#include <string_view>

namespace curvegate::wire {

/// Every code is a peer fault: close the connection (tcp) or drop the packet (udp).
enum class Errc {
    wrong_length = 1,  ///< not the exact length of the packet its place allows
    wrong_magic,       ///< not the packet its place allows
    wrong_extension,   ///< curvecp: not our 16 bytes
    wrong_range,       ///< curvecp: bytes beyond the end of any stream
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "wire";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::wrong_length: return "packet has the wrong length";
        case Errc::wrong_magic: return "not a packet of this protocol";
        case Errc::wrong_extension: return "packet is for another extension";
        case Errc::wrong_range: return "message names bytes beyond the end of any stream";
    }
    return "unknown";
}

}  // namespace curvegate::wire
