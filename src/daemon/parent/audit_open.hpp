#pragma once

#include "os/socket.hpp"

#include <string>

namespace curvegate::daemon::parent {

/// Opens an audit file for one writer, makes it (0600) if it is missing, and looks whether a chain can go on
/// behind what is there. It must be nobody else's to write. Waits up to 2 s for another writer's end. Error:
/// os system, with what to do.
[[nodiscard]] Result<os::UniqueFd> open_audit(const std::string& path);

/// Do both name one file?
[[nodiscard]] bool is_same_file(int fd, const std::string& path);

}  // namespace curvegate::daemon::parent
