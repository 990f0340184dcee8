#pragma once

#include "base/problem.hpp"
#include "config/config.hpp"

namespace curvegate::cli {

/// What this machine's interfaces make of the addresses of `accept` and `connect`. Lines count through all
/// files.
struct AddressChecks {
    Problems problems;  ///< the daemon would not start
    Problems warnings;
};
[[nodiscard]] AddressChecks check_addresses(const config::Parsed& parsed);

}  // namespace curvegate::cli
