#pragma once

#include "daemon/loaded.hpp"

namespace curvegate::daemon::parent {

/// Raises the limit of descriptors to the hard limit, and logs what this process may have and which limits of
/// the configuration had to be lowered for it.
void take_limits(const Loaded& loaded);

}  // namespace curvegate::daemon::parent
