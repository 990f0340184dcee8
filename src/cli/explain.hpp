#pragma once

#include "base/ip.hpp"
#include "config/config.hpp"
#include "registry/registry.hpp"

#include <optional>
#include <string>

namespace curvegate::cli {

struct Question {
    std::string peer;  ///< a name, or a public key
    std::string service;
    std::optional<IpAddress> source;  ///< nothing: from= is told but refuses nobody
    WallTime now;
};

/// Prints, rule by rule for each line of known_hosts that is the peer's, whether it may use the service (or,
/// for a client end, whether its key is expected). Exit code: 0 if one of its keys may, 1 if none or it is
/// not known, 65 if there is no such service.
[[nodiscard]] int explain(const Question& question, const config::Parsed& parsed,
                          const registry::Registry& registry);

}  // namespace curvegate::cli
