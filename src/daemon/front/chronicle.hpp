#pragma once

#include "base/time.hpp"
#include "status/snapshot.hpp"

#include <cstdint>

namespace curvegate::daemon::front {

/// What has happened to this front since it was born, for `status` and the metrics.
class Chronicle {
  public:
    Chronicle(Instant now, WallTime wall_now) : started_(now), started_wall_(wall_now), loaded_(wall_now) {}

    void reloaded(WallTime now) noexcept {
        loaded_ = now;
        ++reloads_;
    }
    void reload_failed() noexcept { ++reload_failures_; }
    void vault_lost() noexcept { ++vault_lost_; }

    /// Writes it into `out`, whose `now` is `wall_now`.
    void tell(status::Snapshot& out, Instant now, WallTime wall_now) const {
        out.now = wall_now;
        out.started = started_wall_;
        out.uptime = now - started_;
        out.loaded = loaded_;
        out.vault.lost = vault_lost_;
        out.reloads = reloads_;
        out.reload_failures = reload_failures_;
    }

  private:
    Instant started_;
    WallTime started_wall_;
    WallTime loaded_;  // the configuration in force
    std::uint64_t vault_lost_ = 0;
    std::uint64_t reloads_ = 0;
    std::uint64_t reload_failures_ = 0;
};

}  // namespace curvegate::daemon::front
