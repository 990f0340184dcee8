#include "daemon/snapshot.hpp"

#include <algorithm>
#include <map>

namespace curvegate::daemon {
namespace {

constexpr std::size_t kMostConnections = 1'000;  // the newest

status::Service service_of(const config::Service& service, const net::Counters& counters) {
    const auto counted = counters.find_service(service.name);
    status::Service out;
    out.name = service.name;
    out.side = service.side == config::Side::server ? "server" : "client";
    out.carrier = service.tunnel().kind == config::Address::Kind::udp ? "udp" : "tcp";
    out.accept = service.accept.text();
    out.connect = service.connect.text();
    if (!counted) return out;
    out.sessions = counted->sessions;
    out.accepted = counted->accepted;
    out.handshakes = counted->handshakes;
    out.truncations = counted->truncations;
    out.refused = counted->refused;
    out.traffic = {counted->bytes_in, counted->bytes_out};
    return out;
}

// Every name of known_hosts is there, seen or not.
std::map<std::string, status::Peer> peers_of(const Sources& sources) {
    std::map<std::string, status::Peer> out;
    for (const auto& entry : sources.registry.entries()) {
        for (const auto& name : entry.names) out[name].name = name;
    }
    for (const auto& [name, counted] : sources.counters.peers()) {
        status::Peer& peer = out[name];
        peer.name = name;
        peer.key = counted.key;
        peer.handshakes = counted.handshakes;
        peer.traffic = {counted.bytes_in, counted.bytes_out};
        peer.last_handshake = counted.last_handshake;
    }
    return out;
}

}  // namespace

void fill(status::Snapshot& snapshot, const Sources& sources) {
    for (const auto& service : sources.config.services)
        snapshot.services.push_back(service_of(service, sources.counters));
    auto peers = peers_of(sources);
    std::vector<const net::SessionReport*> sessions;
    for (const auto& report : sources.reports) {
        snapshot.vault.connected += report.has_vault ? 1 : 0;
        snapshot.cookie_key_age = std::max(snapshot.cookie_key_age, report.cookie_key_age);
        for (const auto& session : report.sessions) sessions.push_back(&session);
    }
    snapshot.vault.workers = sources.reports.size();
    std::ranges::sort(sessions, {}, [](const auto* session) { return session->lasted; });
    for (const auto* session : sessions) {
        const auto known = peers.find(session->peer);
        status::Peer& peer = known != peers.end() ? known->second : peers[""];
        ++peer.sessions;
        peer.traffic.bytes_in += session->bytes_in;
        peer.traffic.bytes_out += session->bytes_out;
        const auto service = std::ranges::find(snapshot.services, session->service, &status::Service::name);
        if (service != snapshot.services.end()) {
            service->traffic.bytes_in += session->bytes_in;
            service->traffic.bytes_out += session->bytes_out;
        }
        if (snapshot.connections.size() == kMostConnections) {
            ++snapshot.connections_left_out;
            continue;
        }
        const auto since = snapshot.now - std::chrono::floor<std::chrono::seconds>(session->lasted);
        snapshot.connections.push_back({session->id,
                                        session->service,
                                        session->peer,
                                        session->source,
                                        since,
                                        {session->bytes_in, session->bytes_out}});
    }
    for (auto& [name, peer] : peers) snapshot.peers.push_back(std::move(peer));
    for (const auto& [reason, count] : sources.counters.refusals())
        snapshot.refusals.emplace(std::string(reason), count);
    snapshot.half_open = sources.admission.half_open();
    snapshot.hellos_answered = sources.counters.hellos_answered;
    snapshot.hellos_dropped = sources.counters.hellos_dropped;
    // There, "in" is out of the tunnel; here the counters look from the application.
    snapshot.datagrams_in = sources.counters.datagrams_out;
    snapshot.datagrams_out = sources.counters.datagrams_in;
    snapshot.datagrams_dropped = sources.counters.datagrams_dropped;
}

}  // namespace curvegate::daemon
