#include "daemon/parent/reload.hpp"

#include "base/exit_code.hpp"
#include "daemon/parent/difference.hpp"
#include "daemon/parent/limits.hpp"
#include "daemon/parent/load.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"

namespace curvegate::daemon::parent {
Reload::Reload(std::string file, const Confinement& confinement, const ServiceManager& manager,
               InForce& in_force, Openings& openings, Supervisor& children)
    : file_(std::move(file)),
      confinement_(confinement),
      manager_(manager),
      in_force_(in_force),
      openings_(openings),
      children_(children) {}

void Reload::run(std::uint32_t id) {
    auto next = prepare();
    if (!next) return refuse(id, next.error());
    if (!children_.handover().configuration(next->loaded, next->opened, openings_.doors()))
        return refuse(id, {exit_code::kUnavailable, {"the front does not take it"}});
    commit(id, std::move(*next));
}

std::expected<Reload::Next, LoadFailure> Reload::prepare() {
    auto loaded = load(file_);
    if (!loaded) return std::unexpected(std::move(loaded.error()));
    // Of the same cause, mostly: what the sandbox shuts out cannot be opened.
    auto shut = confinement_.beyond(*loaded->config);
    const auto unavailable = [&](std::string why) {
        shut.insert(shut.begin(), std::move(why));
        return std::unexpected(LoadFailure{exit_code::kUnavailable, std::move(shut)});
    };
    auto opened = openings_.open_new_doors(*loaded->config);
    if (!opened) return unavailable(std::move(opened.error()));
    auto audit = openings_.open_new_audit(*loaded->config);
    if (!audit) return unavailable(audit.error().text());
    auto changes = difference(in_force_.loaded, *loaded);
    changes.insert(changes.end(), shut.begin(), shut.end());
    return Next{std::move(*loaded), std::move(*opened), std::move(*audit), std::move(changes)};
}

// The front has all that it needs, and waits for the word.
void Reload::commit(std::uint32_t id, Next next) {
    manager_.reloading(io::now());
    for (const std::string& line : next.changes) tell(id, line);
    if (next.changes.empty()) tell(id, "nothing has changed");
    if (next.audit) {
        openings_.audit_is(std::move(next.audit));
        children_.handover().audit(openings_.audit());
    }
    openings_.adopt(*next.loaded.config, std::move(next.opened));
    in_force_.loaded = std::move(next.loaded);
    ++in_force_.generation;
    if (in_force_.loaded.lowered) take_limits(in_force_.loaded);
    children_.handover().apply({id, in_force_.generation, static_cast<std::uint32_t>(next.changes.size())});
    if (openings_.audit() < 0 || !in_force_.config().audit.empty()) return;
    children_.front().send(to_front::NewAudit{false});  // with its last line
    openings_.audit_is({});
}

void Reload::refuse(std::uint32_t id, const LoadFailure& why) {
    openings_.keep_to(in_force_.config());  // what was opened before something else failed
    for (const std::string& line : why.lines) {
        log::event(log::Level::error, "reload_failed", {{"reason", line}});
        tell(id, line);
    }
    FrontProcess& front = children_.front();
    front.send(to_front::Decided{id, to_front::Decided::What::reload_failed, why.lines.front()});
    front.send(to_front::Done{id, static_cast<std::uint16_t>(why.status)});
}

void Reload::tell(std::uint32_t id, const std::string& line) {
    if (id != 0) children_.front().send(to_front::Told{id, line});
}

}  // namespace curvegate::daemon::parent
