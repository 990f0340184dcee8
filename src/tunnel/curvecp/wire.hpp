#pragma once

#include "tunnel/wire.hpp"

namespace curvegate::tunnel::curvecp {

/// CurveCP over UDP (PROTOCOL 7 to 9): a session for each tunnel.
extern const Wire kWire;

}  // namespace curvegate::tunnel::curvecp
