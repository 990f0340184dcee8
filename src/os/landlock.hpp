#pragma once

#include "base/result.hpp"
#include "os/sandbox.hpp"

namespace curvegate::os {

enum class Tcp { allowed, forbidden };

/// Shuts the calling thread, and all that it starts, out of the file system but for `reach`; where the kernel
/// knows how (ABI 4 and 6), also out of TCP if `tcp` is forbidden, and out of signals and abstract sockets of
/// other processes. Paths that do not exist are passed over: there is nothing to reach.
/// Error: unavailable.
[[nodiscard]] Result<> restrict_files(const Reach& reach, Tcp tcp);

}  // namespace curvegate::os
