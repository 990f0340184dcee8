#include "serve/try_targets.hpp"

#include "handshake/errors.hpp"
#include "log/log.hpp"

namespace curvegate::serve {

bool is_targets_fault(const Error& why) {
    return !is_final(why) && !why.is(io::DialErrc::no_pin) && !why.is(io::DialErrc::names_busy);
}

bool is_final(const Error& why) {
    using handshake::Errc;
    return why.is(Errc::vault_unavailable) || why.is(Errc::vault_timeout) || why.is(Errc::no_secret_memory) ||
           why.is(Errc::stopped) || why.is(Errc::bug) || why.is(io::DialErrc::own_lack) ||
           why.is(io::DialErrc::stopped);
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
