#include "daemon/parent/openings.hpp"

#include "daemon/parent/audit_open.hpp"
#include "daemon/parent/listeners.hpp"
#include "log/log.hpp"

#include <unistd.h>

#include <optional>
#include <unordered_set>

namespace curvegate::daemon::parent {
namespace {

using log::Level;

bool listen_failed(std::string why) {
    log::event(Level::error, "listen_failed", {{"reason", std::move(why)}});
    return false;
}

ControlAccess access_of(const config::Config& config) {
    return {::geteuid(), group_of(config.control_group), group_of(config.status_group)};
}

/// Returns nullopt if all groups that `config` names exist.
std::optional<std::string> unknown_group(const config::Config& config, const ControlAccess& access) {
    const auto said = [&](const std::string& key, const std::string& group) {
        return config.place_of(key) + ": " + key + " = " + group + ": there is no such group";
    };
    if (!config.control_group.empty() && !access.control_group)
        return said("control-group", config.control_group);
    if (!config.status_group.empty() && !access.status_group)
        return said("status-group", config.status_group);
    return std::nullopt;
}

}  // namespace

bool Openings::open_all(const config::Config& config) {
    auto doors = open_new_doors(config);
    if (!doors) (void)listen_failed(doors.error());
    if (doors) doors_ = std::move(*doors);
    tell_unused(config);
    return doors && open_control(config) && open_metrics(config) && open_audit_file(config);
}

std::expected<DoorSockets, std::string> Openings::open_new_doors(const config::Config& config) {
    DoorSockets out;
    for (const DoorPlan& plan : doors_of(config)) {
        const config::Service& service = config.services[plan.services.front()];
        const bool passed = !service.accept.passed.empty();
        const bool is_open = doors_.contains(plan.key);
        if (is_open && !passed) continue;
        // Passed ones are looked at each time: `client` may have been turned round.
        auto sockets = passed ? passed_.copies_for(service, workers_) : open_listeners(service, workers_);
        if (!sockets) {
            const Problem problem{config.file, service.accept_line, sockets.error().text()};
            return std::unexpected(config.located({problem}).front().message());
        }
        if (!passed && !service.accept.path.empty()) door_files_.add(service.accept.path);
        if (!is_open) out[plan.key] = std::move(*sockets);
    }
    return out;
}

// Clients of such a socket wait for nobody.
void Openings::tell_unused(const config::Config& config) const {
    for (const std::string& name : passed_.unused(config)) {
        log::event(Level::warning, "socket_unused",
                   {{"name", name}, {"hint", "no section has accept = systemd:" + name}});
    }
}

bool Openings::open_control(const config::Config& config) {
    if (config.control.empty()) return true;
    const auto access = access_of(config);
    if (const auto unknown = unknown_group(config, access)) return listen_failed(*unknown);
    auto socket = open_control_socket(config.control, access);
    if (!socket) return listen_failed(config.place_of("control") + ": control = " + socket.error().text());
    control_ = std::move(*socket);
    control_access_ = access;
    own_files_.add(config.control);
    return true;
}

bool Openings::open_metrics(const config::Config& config) {
    if (!config.metrics) return true;
    auto socket = open_metrics_socket(*config.metrics);
    if (!socket) return listen_failed(config.place_of("metrics") + ": " + socket.error().text());
    metrics_ = std::move(*socket);
    if (const auto& path = config.metrics->path; !path.empty()) own_files_.add(path);
    return true;
}

bool Openings::open_audit_file(const config::Config& config) {
    auto file = open_new_audit(config);
    if (!file) {
        log::event(Level::error, "audit_not_opened", {{"reason", file.error().text()}});
        return false;
    }
    audit_ = std::move(*file);
    return true;
}

Result<os::UniqueFd> Openings::open_new_audit(const config::Config& config) const {
    if (config.audit.empty() || (audit_ && is_same_file(audit_.get(), config.audit))) return os::UniqueFd();
    return open_audit(config.audit);
}

void Openings::keep_to(const config::Config& in_force) {
    remove_all_but_of(in_force, door_files_);
}

void Openings::adopt(const config::Config& next, DoorSockets opened) {
    keep_to(next);
    std::unordered_set<std::string> keys;
    for (DoorPlan& plan : doors_of(next)) keys.insert(std::move(plan.key));
    std::erase_if(doors_, [&](const auto& door) { return !keys.contains(door.first); });
    doors_.merge(opened);
    tell_unused(next);
}

Result<> Openings::copy_into(FrontSetup& setup) const {
    auto doors = copies_of(doors_);
    auto control = os::copy_of(control_);
    auto metrics = os::copy_of(metrics_);
    auto audit = os::copy_of(audit_);
    if (!doors) return fail(std::move(doors));
    for (auto* copy : {&control, &metrics, &audit}) {
        if (!*copy) return fail(std::move(*copy));
    }
    setup.sockets = std::move(*doors);
    setup.control = std::move(*control);
    setup.control_access = control_access_;
    setup.metrics = std::move(*metrics);
    setup.audit = std::move(*audit);
    return {};
}

void Openings::close_doors() {
    door_files_.remove_all();
    doors_.clear();
}

void Openings::close() {
    close_doors();
    own_files_.remove_all();
}

void Openings::forget() {
    door_files_.forget();
    own_files_.forget();
    doors_.clear();
    passed_.clear();
    control_.reset();
    metrics_.reset();
    audit_.reset();
}

}  // namespace curvegate::daemon::parent
