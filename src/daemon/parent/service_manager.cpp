#include "daemon/parent/service_manager.hpp"

#include <chrono>
#include <string>

namespace curvegate::daemon::parent {

void ServiceManager::ready(const InForce& what) const {
    notifier_.say("READY=1\nSTATUS=generation " + std::to_string(what.generation) +
                  ", services: " + std::to_string(what.config().services.size()));
}

void ServiceManager::reloading(Instant now) const {
    const auto since_boot = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
    notifier_.say("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(since_boot.count()));
}

void ServiceManager::watch(Instant now) {
    if (const auto period = notifier_.watchdog()) due_ = now + *period / 3;
}

bool ServiceManager::wants_to_hear(Instant now) {
    if (!due_ || now < *due_) return false;
    watch(now);
    return true;
}

}  // namespace curvegate::daemon::parent
