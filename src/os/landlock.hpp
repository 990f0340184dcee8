#pragma once

#include "base/result.hpp"
#include "os/sandbox.hpp"

namespace curvegate::os {

/// Shuts the calling thread, and all that it starts, out of the file system but for `reach`; where the kernel
/// knows how (ABI 4 and 6), the vault also out of TCP, all out of signals to processes outside, and all but
/// the parent out of abstract sockets of others (the service manager's may be one). Paths that do not exist
/// or cannot be reached by this user are passed over: there is nothing to leave open.
/// Error: unavailable.
[[nodiscard]] Result<> restrict_files(Calls calls, const Reach& reach);

}  // namespace curvegate::os
