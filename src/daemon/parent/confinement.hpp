#pragma once

#include "config/config.hpp"
#include "os/sandbox.hpp"

#include <optional>
#include <string>
#include <vector>

namespace curvegate::daemon::parent {

/// The sandbox of the parent, which all its children inherit. It only ever grows: what may be written was
/// settled at the start.
class Confinement {
  public:
    /// To be called before the vault is started: what keeps a later one from starting keeps the first one
    /// too. Returns false if the sandbox is required and cannot be had; the reason has been logged.
    [[nodiscard]] bool enter(const config::Config& config);

    /// Lines for people about what `next` would have us write and this process may not; none if it is not
    /// confined.
    [[nodiscard]] std::vector<std::string> beyond(const config::Config& next) const;

  private:
    std::optional<os::Reach> reach_;  // of a process that is confined
};

}  // namespace curvegate::daemon::parent
