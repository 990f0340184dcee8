#pragma once

#include <cstdint>

namespace curvegate {

/// What is spoken in a tunnel. Both ends name it; it is never negotiated.
enum class Wire : std::uint8_t {
    curve_tun,  ///< curve_tun version 1, over TCP (PROTOCOL 3 to 5)
    curvecp,    ///< CurveCP, over UDP (PROTOCOL 7 to 10)
};

}  // namespace curvegate
