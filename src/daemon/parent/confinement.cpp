#include "daemon/parent/confinement.hpp"

#include "daemon/parent/reach.hpp"
#include "log/log.hpp"
#include "os/spawn.hpp"

namespace curvegate::daemon::parent {

bool Confinement::enter(const config::Config& config) {
    reach_ = reach_of(config, os::sibling_program("curvegate-vault"));
    const auto done = os::confine(os::Calls::parent, *reach_);
    if (done) return true;
    reach_.reset();
    const bool required = config.sandbox == config::Strictness::require;
    log::event(required ? log::Level::error : log::Level::warning, "sandbox_missing",
               {{"reason", done.error().text()}});
    return !required;
}

std::vector<std::string> Confinement::beyond(const config::Config& next) const {
    return reach_ ? parent::beyond(*reach_, next) : std::vector<std::string>();
}

}  // namespace curvegate::daemon::parent
