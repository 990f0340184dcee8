#pragma once

#include "net/dial.hpp"

#include <optional>
#include <string>
#include <vector>

/// From a host, as the configuration writes it, to addresses: the same for the daemon, `probe`, `connect` and
/// the library.
namespace curvegate::net {

/// More addresses than these of one name are not tried.
inline constexpr std::size_t kMostAddresses = 16;

/// The address that `host` is: dotted IPv4, or IPv6 with or without the interface of a link-local address
/// ("fe80::1%eth0"). Returns nullopt if it is a name. Error: no_interface.
[[nodiscard]] std::optional<Result<ScopedIp>> literal_address(const std::string& host);

/// Asks the system's resolver (files, DNS and whatever else nsswitch.conf names), and waits for it. Addresses
/// of both families, whatever this machine's interfaces have now: those it has no way to come last.
/// Errors: name_unknown, name_unanswered, own_lack.
[[nodiscard]] Result<std::vector<ScopedIp>> look_up(const std::string& host);

/// The addresses of a host: those of literals and of localhost are known, for others `resolver` is asked.
/// `handler` is called once on `context`, never from within. Errors: no_interface, and those of
/// Resolver::resolve.
void find_addresses(asio::io_context& context, Resolver& resolver, const std::string& host,
                    Resolver::Handler handler);

}  // namespace curvegate::net
