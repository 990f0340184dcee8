#pragma once

#include "base/bytes.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace curvegate {

/// An IP address in one canonical form: 16 bytes, IPv4 as v4-mapped IPv6 (::ffff:a.b.c.d).
struct IpAddress {
    ByteArray<16> bytes{};
    friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

    [[nodiscard]] bool is_v4() const noexcept;
    /// Of 127.0.0.0/8, or ::1.
    [[nodiscard]] bool is_loopback() const noexcept;
    /// Dotted IPv4 or RFC 5952 IPv6, without brackets or zone.
    [[nodiscard]] std::string text() const;
    /// Its network, for where the address itself is nobody's business: "192.0.2.0/24", "2001:db8:1::/48".
    [[nodiscard]] std::string masked_text() const;
    /// The address with all but its first `bits` bits of 128 cleared.
    [[nodiscard]] IpAddress prefix(unsigned bits) const noexcept;

    /// Parses dotted IPv4 or IPv6 text (no zone, no brackets); v4-mapped text gives the IPv4 form.
    [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);
    [[nodiscard]] static IpAddress from_v4(FixedBytes<4> v4) noexcept;
};

/// A block of addresses, "10.0.0.0/8" or one address.
struct IpBlock {
    IpAddress network;
    unsigned bits = 128;  ///< of 128, so an IPv4 /24 is 120
    friend auto operator<=>(const IpBlock&, const IpBlock&) = default;

    /// A block of IPv6 holds no IPv4 address, not even ::/0: that those are written as v4-mapped is our own
    /// affair.
    [[nodiscard]] bool contains(const IpAddress& address) const noexcept {
        constexpr unsigned kV4Bits = 96;
        return address.prefix(bits) == network && (bits >= kV4Bits || !address.is_v4());
    }
    /// Refuses host bits set beyond the prefix: such a line is a mistake more often than a wish.
    [[nodiscard]] static std::optional<IpBlock> parse(std::string_view text);
    [[nodiscard]] std::string text() const;
};

}  // namespace curvegate
