#pragma once

#include <cstdint>

namespace curvegate::guard {

/// Which service it is, for as long as the daemon runs: a reload that changes, moves or renames its section
/// leaves it its number, and no other service ever gets it. Sessions and what is counted belong to the
/// number, not to the name.
enum class ServiceId : std::uint64_t {};

}  // namespace curvegate::guard
