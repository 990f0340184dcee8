#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <string>
#include <vector>

namespace curvegate::os {

struct SpawnRequest {
    std::string program;                   ///< path
    std::vector<std::string> arguments;    ///< without the program's name
    std::vector<std::string> environment;  ///< "NAME=value"; nothing else is passed on
    std::vector<int> descriptors;          ///< become 3, 4, ... in this order; all others are closed
};

/// Starts a program with default signal handling and a cleared environment. Gives its pid.
/// Error: it cannot be executed; the detail names the program and says why.
[[nodiscard]] Result<int> spawn(const SpawnRequest& request);

/// The path of a program of this installation: beside the running one, else in its libexec or sbin folder,
/// else the plain name for PATH.
[[nodiscard]] std::string sibling_program(const std::string& name);

}  // namespace curvegate::os
