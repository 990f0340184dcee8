#pragma once

#include "config/config.hpp"

#include <optional>
#include <string>

namespace curvegate::daemon::parent {

/// Returns nullopt if there is a folder at the configuration's state-dir, or if this daemon needs none: the
/// keys are another unit's, or no state-dir is named. Otherwise what is wrong, where, and how to make the
/// folder. Nobody makes it by itself: a state folder that is gone is a lost nonce counter.
[[nodiscard]] std::optional<std::string> missing_state_dir(const config::Config& config);

}  // namespace curvegate::daemon::parent
