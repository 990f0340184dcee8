#pragma once

#include "config/config.hpp"
#include "daemon/parent/openings.hpp"
#include "daemon/parent/supervisor.hpp"

namespace curvegate::daemon::parent {

/// Whoever rotates logs has moved log-file and audit away (USR1): opens both again, and gives them to the
/// front. One that cannot be opened is logged, and lines go on going to the old file.
void reopen_files(const config::Config& config, Openings& openings, Supervisor& children);

}  // namespace curvegate::daemon::parent
