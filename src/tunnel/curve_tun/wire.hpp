#pragma once

#include "tunnel/wire.hpp"

namespace curvegate::tunnel::curve_tun {

/// curve_tun version 1 over TCP (PROTOCOL 3 to 5): a connection for each tunnel.
extern const Wire kWire;

}  // namespace curvegate::tunnel::curve_tun
