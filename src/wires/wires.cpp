#include "wires/wires.hpp"

#include "tunnel/curve_tun/wire.hpp"
#include "tunnel/curvecp/wire.hpp"

namespace curvegate::wires {

const tunnel::Wire& of(service::Wire wire) noexcept {
    switch (wire) {
        case service::Wire::curve_tun: return tunnel::curve_tun::kWire;
        case service::Wire::curvecp: break;
    }
    return tunnel::curvecp::kWire;
}

}  // namespace curvegate::wires
