#pragma once

#include "base/time.hpp"
#include "daemon/parent/in_force.hpp"
#include "os/notify.hpp"

namespace curvegate::daemon::parent {

/// What the service manager is told (sd_notify(3)), and when it wants to hear that the front lives. Where
/// there is none, nothing is said and nothing is due.
class ServiceManager {
  public:
    void ready(const InForce& what) const;
    void reloading(Instant now) const;
    void stopping() const { notifier_.say("STOPPING=1"); }
    void alive() const { notifier_.say("WATCHDOG=1"); }  ///< the front has answered

    /// From `now` on the front is to be asked three times in the period in which it wants to hear.
    void watch(Instant now);
    [[nodiscard]] Deadline next_deadline() const noexcept { return due_; }
    /// Is it time to ask the front? If it is, the next time is set.
    [[nodiscard]] bool wants_to_hear(Instant now);

  private:
    const os::Notifier notifier_ = os::Notifier::from_environment();
    Deadline due_;
};

}  // namespace curvegate::daemon::parent
