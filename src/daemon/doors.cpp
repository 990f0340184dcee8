#include "daemon/doors.hpp"

#include <unordered_map>

namespace curvegate::daemon {
namespace {

constexpr const char* kTunnel = " (CurveCP)";

}  // namespace

std::string door_key(const config::Service& service) {
    const bool tunnel = service.side == config::Side::server &&
                        service::transport_of(service.wire()) == service::Transport::udp;
    // One place has one form, however it is written: a second socket there would not be a second door. What
    // is spoken there does not make it another.
    config::Address place = service.accept;
    place.wire.reset();
    const auto host = IpAddress::parse(place.host == "localhost" ? "127.0.0.1" : place.host);
    if (host) place.host = host->text();
    return place.text() + (tunnel ? kTunnel : "");
}

std::vector<DoorPlan> doors_of(const config::Config& config) {
    std::vector<DoorPlan> out;
    std::unordered_map<std::string, std::size_t> places;  // in `out`, by key
    for (std::size_t i = 0; i < config.services.size(); ++i) {
        if (config.services[i].accept.kind == config::Address::Kind::none) continue;
        const std::string key = door_key(config.services[i]);
        const auto [place, is_new] = places.emplace(key, out.size());
        if (is_new) out.push_back({key, {}});
        out[place->second].services.push_back(i);
    }
    return out;
}

Result<DoorSockets> copies_of(const DoorSockets& sockets) {
    DoorSockets out;
    for (const auto& [key, row] : sockets) {
        for (const auto& socket : row) {
            auto copy = os::copy_of(socket);
            if (!copy) return fail(std::move(copy));
            out[key].push_back(std::move(*copy));
        }
    }
    return out;
}

}  // namespace curvegate::daemon
