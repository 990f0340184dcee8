#pragma once

#include "config/config.hpp"
#include "config/values.hpp"

#include <string_view>

namespace curvegate::config {

enum class Use { accept, connect };

/// The tunnel's side: `curve_tun:HOST:PORT` or `curvecp:HOST:PORT`; to accept by also
/// `curve_tun:systemd:NAME`. `tcp:`, `udp:` and an address without a word are kept for version 2: until then
/// they are refused, with the word to write instead.
[[nodiscard]] Value<Address> parse_tunnel(std::string_view text, Use use);
/// The side of the application: `[tcp:]HOST:PORT` or `unix:/path` for streams, `udp:HOST:PORT` for datagrams,
/// `seqpacket:/path` for messages; to accept by also `[tcp:]systemd:NAME` for streams, `udp:systemd:NAME` for
/// datagrams, and `none`: nobody listens. The word of a wire is refused: it belongs to the tunnel's side.
[[nodiscard]] Value<Address> parse_plain(std::string_view text, Use use);

/// Where counters are served: a loopback address with its port, or `unix:/path`; nobody else may ask.
[[nodiscard]] Value<Address> parse_metrics(std::string_view text);

/// Where an address listens, taken apart once, so that each of many can be compared with all others.
struct Listening {
    std::string ground;             ///< listeners of different grounds never meet; empty: nobody listens
    std::optional<IpAddress> host;  ///< of an IP port
    std::string name;               ///< the host of an IP port that is no plain address, such as fe80::1%eth0
};
[[nodiscard]] Listening listening_of(const Address& accept);
/// Would listening on one keep another listener from the other? Both are of one ground.
[[nodiscard]] bool overlap(const Listening& a, const Listening& b);
/// The same of any two. `[::]` takes both families; tcp and udp never meet.
[[nodiscard]] bool overlap(const Address& a, const Address& b);

}  // namespace curvegate::config
