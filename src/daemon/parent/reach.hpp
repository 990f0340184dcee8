#pragma once

#include "config/config.hpp"
#include "os/sandbox.hpp"

#include <string>
#include <vector>

namespace curvegate::daemon::parent {

/// What the parent, and so all of its children, may reach in the file system under this configuration: to
/// read all but devices and what the kernel shows of processes (/dev, /proc, /sys); to make, change and
/// remove files in the folders of the configuration's own; to start the vault, whose program `vault` is (a
/// path, or a name for PATH).
[[nodiscard]] os::Reach reach_of(const config::Config& config, const std::string& vault);

/// A line for people about each folder in which `config` would have files made or changed, and that a parent
/// with `reach` may not write in: a sandbox only ever grows.
[[nodiscard]] std::vector<std::string> beyond(const os::Reach& reach, const config::Config& config);

}  // namespace curvegate::daemon::parent
