#include "daemon/doors.hpp"

#include <fcntl.h>

#include <algorithm>

namespace curvegate::daemon {
namespace {

std::string key_of(const config::Service& service) {
    const bool tunnel =
        service.side == config::Side::server && service.accept.kind == config::Address::Kind::udp;
    return service.accept.text() + (tunnel ? " (CurveCP)" : "");
}

}  // namespace

std::vector<DoorPlan> doors_of(const config::Config& config) {
    std::vector<DoorPlan> out;
    for (std::size_t i = 0; i < config.services.size(); ++i) {
        if (config.services[i].accept.kind == config::Address::Kind::none) continue;
        const std::string key = key_of(config.services[i]);
        const auto known = std::ranges::find(out, key, &DoorPlan::key);
        if (known != out.end()) {
            known->services.push_back(i);
        } else {
            out.push_back({key, {i}});
        }
    }
    return out;
}

DoorSockets copies_of(const DoorSockets& sockets) {
    DoorSockets out;
    for (const auto& [key, row] : sockets) {
        for (const auto& socket : row) out[key].emplace_back(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    }
    return out;
}

}  // namespace curvegate::daemon
