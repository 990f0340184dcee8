#pragma once

#include "config/config.hpp"
#include "guard/service_id.hpp"

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace curvegate::daemon::front {

/// Numbers the sections of the configuration in force, so that a reload knows whose the sessions are.
class ServiceIds {
  public:
    using Renamed = std::pair<std::string, std::string>;  ///< before, after

    /// From now on these are the sections. A section keeps its number if its name stays and so does its end
    /// (server or client), wherever it listens now. One of a new name takes over the number of one whose name
    /// is gone, if it listens where that one did and is of the same end; on a server's UDP port it must also
    /// answer to the same server-name. All others get new numbers. Gives those that were renamed.
    std::vector<Renamed> follow(const config::Config& config);

    /// `name` is that of a section in force.
    [[nodiscard]] guard::ServiceId of(const std::string& name) const { return known_.at(name).id; }

  private:
    struct Known {
        guard::ServiceId id;
        config::Side side;
        std::string place;  ///< which no other section has; empty: it listens nowhere
    };

    std::unordered_map<std::string, Known> known_;  // by name
    std::uint64_t last_ = 0;
};

}  // namespace curvegate::daemon::front
