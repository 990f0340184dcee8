#pragma once

#include "daemon/channel.hpp"
#include "daemon/parent/confinement.hpp"
#include "daemon/parent/in_force.hpp"
#include "daemon/parent/openings.hpp"
#include "daemon/parent/service_manager.hpp"
#include "daemon/parent/supervisor.hpp"

#include <cstdint>
#include <string>

namespace curvegate::daemon::parent {

/// Reads the configuration again. All of it is read, checked and opened before anything changes: either the
/// whole of it is in force afterwards, here and in the front, or nothing of it.
class Reload {
  public:
    /// `file` is the configuration's. What it is given must outlive it.
    Reload(std::string file, const Confinement& confinement, const ServiceManager& manager, InForce& in_force,
           Openings& openings, Supervisor& children);

    /// `id` is the request's, 0: a signal's. Whoever asked is told line by line what changes, or what is
    /// wrong. There must be a front that hears.
    void run(std::uint32_t id);
    /// Tells whoever asked, the log and the audit that nothing has changed, and why. `why` has a line.
    void refuse(std::uint32_t id, const LoadFailure& why);

  private:
    /// What has been read, checked and opened, and is not in force yet.
    struct Next {
        Loaded loaded;
        DoorSockets opened;
        os::UniqueFd audit;                ///< none: the one that is open stays
        std::vector<std::string> changes;  ///< for people
    };
    [[nodiscard]] std::expected<Next, LoadFailure> prepare();
    void commit(std::uint32_t id, Next next);
    void tell(std::uint32_t id, const std::string& line);

    const std::string file_;
    const Confinement& confinement_;
    const ServiceManager& manager_;
    InForce& in_force_;
    Openings& openings_;
    Supervisor& children_;
};

}  // namespace curvegate::daemon::parent
