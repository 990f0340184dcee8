#include "daemon/front/service_ids.hpp"

#include "daemon/doors.hpp"

namespace curvegate::daemon::front {
namespace {

std::string place_of(const config::Service& service) {
    if (service.accept.kind == config::Address::Kind::none) return {};
    const bool is_shared = service.side == config::Side::server && service::names_services(service.wire());
    return door_key(service) + (is_shared ? "\n" + service.server_name : "");
}

}  // namespace

std::vector<ServiceIds::Renamed> ServiceIds::follow(const config::Config& config) {
    const auto before = std::exchange(known_, {});
    const auto same_name = [&](const config::Service& service) {
        const auto found = before.find(service.name);
        return found != before.end() && found->second.side == service.side ? found : before.end();
    };
    std::unordered_map<std::string, const std::pair<const std::string, Known>*> left;  // by place
    for (const auto& old : before) left.emplace(old.second.place, &old);
    for (const auto& service : config.services) {
        if (const auto old = same_name(service); old != before.end()) left.erase(old->second.place);
    }
    std::vector<Renamed> renamed;
    for (const auto& service : config.services) {
        Known now{guard::ServiceId{0}, service.side, place_of(service)};
        const auto gone = now.place.empty() ? left.end() : left.find(now.place);
        if (const auto old = same_name(service); old != before.end()) {
            now.id = old->second.id;
        } else if (gone != left.end() && gone->second->second.side == service.side) {
            now.id = gone->second->second.id;
            renamed.emplace_back(gone->second->first, service.name);
        } else {
            now.id = guard::ServiceId{++last_};
        }
        known_.emplace(service.name, std::move(now));
    }
    return renamed;
}

}  // namespace curvegate::daemon::front
