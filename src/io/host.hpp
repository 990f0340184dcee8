#pragma once

#include "io/dial.hpp"
#include "io/look_up.hpp"

#include <string>

/// From a host, as the configuration writes it, to addresses: the same for the daemon, `probe`, `connect` and
/// the library.
namespace curvegate::io {

/// The addresses of a host: those of literals and of localhost are known, for others `resolver` is asked.
/// `handler` is called once on `context`, never from within. Errors: no_interface, and those of
/// Resolver::resolve.
void find_addresses(asio::io_context& context, Resolver& resolver, const std::string& host,
                    Resolver::Handler handler);

}  // namespace curvegate::io
