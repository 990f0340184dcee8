#pragma once

#include "base/result.hpp"
#include "base/scoped_ip.hpp"
#include "io/dial_error.hpp"

#include <optional>
#include <string>
#include <vector>

/// From a name to addresses by this machine's own means, which may wait: find_addresses() (host.hpp) does so
/// off the event loop.
namespace curvegate::io {

/// More addresses than these of one name are not tried.
inline constexpr std::size_t kMostAddresses = 16;

/// The address that `host` is: dotted IPv4, or IPv6 with or without the interface of a link-local address
/// ("fe80::1%eth0"). Returns nullopt if it is a name. Error: no_interface.
[[nodiscard]] std::optional<Result<ScopedIp>> literal_address(const std::string& host);

/// Of what a resolver found, the addresses to try, kMostAddresses at most: the families by turns, beginning
/// with that of the first one, so that a whole family without a way costs little (RFC 8305, 4). A link-local
/// address without its interface leads nowhere and is left out.
[[nodiscard]] std::vector<ScopedIp> worth_trying(const std::vector<ScopedIp>& found);

/// Asks the system's resolver (files, DNS and whatever else nsswitch.conf names), and waits for it. Gives
/// what is worth trying of both families; where IPv6 leads nowhere, of IPv4 if there is any. Errors:
/// name_unknown, name_unanswered, own_lack.
[[nodiscard]] Result<std::vector<ScopedIp>> look_up(const std::string& host);

}  // namespace curvegate::io
