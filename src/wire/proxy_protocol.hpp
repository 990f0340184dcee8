#pragma once

#include "base/bytes.hpp"
#include "base/ip.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"

#include <optional>
#include <string_view>
#include <vector>

/// haproxy's PROXY protocol (its doc/proxy-protocol.txt, here "PP"): who connects, said at the beginning of a
/// connection. We write version 2 to an application, and read versions 1 and 2 from a trusted front. What we
/// add to it stands in docs/guides/proxy-protocol.md.
namespace curvegate::wire::proxy {

// What the protocol fixes.
inline constexpr std::size_t kLongestLine = 107;  ///< of version 1, with CR LF
/// All of it fits the smallest segment of TCP (PP 2). We write no longer header, and read none.
inline constexpr std::size_t kMaxHeaderSize = 536;

// What we chose: values of the range for applications (PP 2.2.8).
inline constexpr Byte kPeerName = 0xe0;     ///< the name in known_hosts that let the peer in
inline constexpr Byte kPeerKey = 0xe1;      ///< its public key, base64: 44 characters
inline constexpr Byte kServiceName = 0xe2;  ///< the section that it uses

/// Every code is a fault of who sent the header: close the connection.
enum class Errc {
    no_header = 1,  ///< not the beginning of a header of version 1 or 2
    malformed,      ///< the beginning is one, the rest is not
    too_long,       ///< longer than kMaxHeaderSize, or a line longer than kLongestLine
};
[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "proxy";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::no_header: return "connection does not begin with a PROXY header";
        case Errc::malformed: return "PROXY header is malformed";
        case Errc::too_long: return "PROXY header is too long";
    }
    return "unknown";
}

struct Endpoint {
    IpAddress address{};
    std::uint16_t port = 0;
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};
/// Between whom a connection goes that somebody passes on.
struct Addresses {
    Endpoint source;       ///< who connected
    Endpoint destination;  ///< where to; zeros where that is not known
    friend bool operator==(const Addresses&, const Addresses&) = default;
};

/// What a front says of a connection.
struct Header {
    std::size_t size;  ///< in bytes, from the first to the last: what follows is not the header's
    /// nullopt if the connection's own addresses count: for a front's checks of health (LOCAL), and where
    /// the front does not know the addresses or they are not IP addresses.
    std::optional<Addresses> addresses;
};

/// What we tell an application. An empty text is left out.
struct Introduction {
    std::optional<Addresses> addresses;  ///< nothing: LOCAL
    std::string_view peer_name;
    std::optional<crypto::PublicKey> peer_key;
    std::string_view service;
};

/// A header at the beginning of `bytes`; nothing: all of them belong to a header that is not whole yet. Looks
/// at no byte beyond the header. Checksums and values are not read. Errors: no_header, malformed, too_long,
/// each as soon as the bytes say so.
[[nodiscard]] Result<std::optional<Header>> parse(Bytes bytes);

/// A header of version 2, at most kMaxHeaderSize bytes: key and names are written in this order as far as
/// they fit, and none is ever cut, since a cut name may be another's. Both addresses are written as IPv4, or
/// both as IPv6.
[[nodiscard]] std::vector<Byte> serialise(const Introduction& introduction);

}  // namespace curvegate::wire::proxy
