#pragma once

#include "base/scoped_ip.hpp"

#include <cstdint>
#include <string>

namespace curvegate {

/// An address and a port.
struct IpEndpoint {
    ScopedIp address;
    std::uint16_t port = 0;
    friend auto operator<=>(const IpEndpoint&, const IpEndpoint&) = default;

    /// "192.0.2.1:80" or "[2001:db8::1]:80".
    [[nodiscard]] std::string text() const {
        const std::string number = std::to_string(port);
        return address.ip.is_v4() ? address.ip.text() + ":" + number
                                  : "[" + address.ip.text() + "]:" + number;
    }
};

/// Between whom a datagram goes: the peer, and our own address that it was sent to, so that the answer of a
/// socket bound to every address leaves from there.
struct Path {
    IpEndpoint peer;
    IpAddress own;  ///< zeros: the kernel chooses
    friend auto operator<=>(const Path&, const Path&) = default;
};

}  // namespace curvegate
