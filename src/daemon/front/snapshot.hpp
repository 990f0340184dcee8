#pragma once

#include "config/config.hpp"
#include "guard/counters.hpp"
#include "serve/worker.hpp"
#include "status/snapshot.hpp"

#include <vector>

namespace curvegate::daemon::front {

/// What `status` shows, of what workers and counters say.
struct Sources {
    const config::Config& config;
    const registry::Registry& registry;
    const guard::Counters& counters;
    const guard::Admission& admission;
    const std::vector<serve::Worker::Report>& reports;  ///< one for each worker
};
/// Fills in all but what the front itself knows: start, generation, reloads.
void fill(status::Snapshot& snapshot, const Sources& sources);

}  // namespace curvegate::daemon::front
