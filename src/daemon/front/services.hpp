#pragma once

#include "config/config.hpp"
#include "daemon/doors.hpp"
#include "daemon/front/service_ids.hpp"
#include "guard/counters.hpp"
#include "serve/service.hpp"

#include <memory>
#include <vector>

namespace curvegate::daemon::front {

/// From a configuration to what each worker serves: where it listens, and by which specification. Sections
/// keep their numbers and their counts as ServiceIds says.
class Services {
  public:
    Services(std::shared_ptr<guard::Counters> counters, std::size_t workers)
        : counters_(std::move(counters)), workers_(workers) {}

    /// `config` is in force. `opened` are the sockets of its doors that were not open before. Gives the doors
    /// of each worker; those that were open before have no sockets with them.
    [[nodiscard]] std::vector<std::vector<serve::Door>> follow(const config::Config& config,
                                                               DoorSockets opened);

  private:
    [[nodiscard]] serve::ServiceSpec spec_of(const config::Config& config,
                                             const config::Service& service) const;

    std::shared_ptr<guard::Counters> counters_;
    std::size_t workers_;
    ServiceIds ids_;
};

}  // namespace curvegate::daemon::front
