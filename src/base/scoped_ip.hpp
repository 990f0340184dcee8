#pragma once

#include "base/ip.hpp"

#include <cstdint>
#include <string_view>
#include <utility>

namespace curvegate {

/// An address to connect to or to listen on. A link-local one (fe80::/10) exists once on each network
/// interface, so it needs the number of one.
struct ScopedIp {
    IpAddress ip;
    std::uint32_t scope = 0;  ///< number of the interface; 0: none is named

    ScopedIp() = default;
    ScopedIp(const IpAddress& address,  // NOLINT(google-explicit-constructor): most have no scope
             std::uint32_t interface_number = 0)
        : ip(address), scope(interface_number) {}
    friend auto operator<=>(const ScopedIp&, const ScopedIp&) = default;
};

/// fe80::/10
[[nodiscard]] inline bool is_link_local(const IpAddress& address) noexcept {
    return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80;
}

/// "fe80::1%eth0" as {"fe80::1", "eth0"}; the second part is empty if there is no '%'.
[[nodiscard]] inline std::pair<std::string_view, std::string_view> split_scope(
    std::string_view host) noexcept {
    const auto percent = host.find('%');
    if (percent == std::string_view::npos) return {host, {}};
    return {host.substr(0, percent), host.substr(percent + 1)};
}

}  // namespace curvegate
