#pragma once

#include "base/problem.hpp"
#include "config/config.hpp"
#include "registry/registry.hpp"

#include <optional>

namespace curvegate::cli {

/// What a parsed configuration, and the files that it names, look like together.
struct Examined {
    Problems warnings;
    Problems known_hosts;  ///< why there is no registry
    Problems problems;
    int status = 0;  ///< with which a daemon would end for these: 66, 69, 77 or 78; 0: there are none
    std::optional<registry::Registry> registry;
    [[nodiscard]] bool good() const noexcept { return known_hosts.empty() && problems.empty(); }
};

/// Reads known_hosts, keys and counters; changes nothing.
[[nodiscard]] Examined examine(const config::Parsed& parsed, WallTime now);

}  // namespace curvegate::cli
