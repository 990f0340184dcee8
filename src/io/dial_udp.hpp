#pragma once

#include "io/dial.hpp"
#include "os/socket.hpp"

#include <functional>

namespace curvegate::io {

/// Resolves `target` and makes a UDP socket that talks with its first usable address only; nothing is sent,
/// so whether anybody is there shows later or never. `done` is called once, never from within. Errors:
/// refused, timeout, own_lack and those of find_addresses().
using DialedUdpFn = std::move_only_function<void(Result<os::UniqueFd>)>;
void dial_udp(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
              DialedUdpFn done);

}  // namespace curvegate::io
