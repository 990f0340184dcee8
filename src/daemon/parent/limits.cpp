#include "daemon/parent/limits.hpp"

#include "log/log.hpp"

#include <sys/resource.h>

namespace curvegate::daemon::parent {
namespace {

// Gives the effective one.
std::size_t raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
    (void)::getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

}  // namespace

void take_limits(const Loaded& loaded) {
    const std::size_t descriptors = raise_descriptor_limit();
    if (!loaded.lowered) return log::event(log::Level::info, "limits", {{"descriptors", descriptors}});
    log::event(log::Level::warning, "limits", {{"descriptors", descriptors}, {"reason", *loaded.lowered}});
}

}  // namespace curvegate::daemon::parent
