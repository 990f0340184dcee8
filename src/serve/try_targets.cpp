#include "serve/try_targets.hpp"

#include "handshake/errors.hpp"
#include "log/log.hpp"

namespace curvegate::serve {

bool is_targets_fault(const Error& why) {
    return !is_final(why) && !why.is(io::DialErrc::no_pin) && !why.is(io::DialErrc::names_busy);
}

bool is_final(const Error& why) {
    return handshake::is_ours(why) || why.is(io::DialErrc::own_lack) || why.is(io::DialErrc::stopped);
}

void log_failing(const ServiceSpec& spec, const ServiceTarget& target, const Error& why, Duration rests) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(rests).count();
    log::limited(
        log::Level::warning, "target_failed",
        {{"service", spec.name}, {"target", target.text}, {"reason", why.text()}, {"rests_s", seconds}});
}

void log_back(const ServiceSpec& spec, const ServiceTarget& target) {
    log::limited(log::Level::info, "target_back", {{"service", spec.name}, {"target", target.text}});
}

}  // namespace curvegate::serve
