#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <string>

namespace curvegate::daemon {

/// A name being looked up by a process of its own, so that the resolver library, its files and its plug-ins
/// run neither in the front nor beside a listening socket. The process ends by itself within kLookupSeconds.
struct Lookup {
    std::uint32_t id = 0;
    os::UniqueFd answer;  ///< readable once: a serialised to_front::Resolved; closed without one: no answer
};
inline constexpr unsigned kLookupSeconds = 10;

[[nodiscard]] Result<Lookup> start_lookup(std::uint32_t id, const std::string& host);

}  // namespace curvegate::daemon
