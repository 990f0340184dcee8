#include "daemon/front/snapshot.hpp"

#include "io/clock.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

namespace curvegate::daemon::front {
namespace {

constexpr std::size_t kMostConnections = 1'000;  // the newest

status::Service service_of(const config::Service& service, const guard::Counters& counters) {
    const auto counted = counters.find_service(service.name);
    status::Service out;
    out.name = service.name;
    out.side = service.side == config::Side::server ? "server" : "client";
    out.wire = service::word(service.wire());
    out.accept = service.accept.text();
    out.connect = service.connect_text();
    out.limits = {service.limits.sessions_per_service, service.limits.sessions_per_peer,
                  service.limits.sessions_per_source};
    const Instant now = io::now();
    for (const config::Address& address : service.connect) {
        const auto state =
            counted ? counted->targets.state(address.text(), now) : guard::TargetHealth::State{};
        out.targets.push_back({address.text(), state.up, state.rests});
    }
    if (!counted) return out;
    out.sessions = counted->sessions;
    out.accepted = counted->accepted;
    out.handshakes = counted->handshakes;
    out.truncations = counted->truncations;
    out.refused = counted->refused;
    out.traffic = {counted->bytes_in, counted->bytes_out};
    return out;
}

// There may be thousands of services and many more sessions: nobody searches the one for each of the other.
std::unordered_map<std::string_view, status::Service*> by_name(std::vector<status::Service>& services) {
    std::unordered_map<std::string_view, status::Service*> out;
    out.reserve(services.size());
    for (status::Service& service : services) out.emplace(service.name, &service);
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

/// The server keys that sessions use, while they are counted.
class ServerKeys {
  public:
    void add(const serve::SessionReport& session) {
        if (!session.server_key) return;
        Users& users = keys_.try_emplace(session.server_key->slot, session.server_key->key).first->second;
        ++users.sessions;
        users.peers.insert(session.peer);
    }

    [[nodiscard]] std::vector<status::ServerKey> newest_first() const {
        std::vector<status::ServerKey> out;
        for (const auto slot : slots()) {
            const Users& users = keys_.at(slot);
            auto& key = out.emplace_back(users.key.text(), users.sessions, users.peers.size());
            const auto most = std::min(users.peers.size(), status::ServerKey::kMostNames);
            key.names.assign(users.peers.begin(), std::next(users.peers.begin(), std::ptrdiff_t(most)));
        }
        return out;
    }

  private:
    struct Users {
        explicit Users(const crypto::PublicKey& of) : key(of) {}
        crypto::PublicKey key;
        std::uint64_t sessions = 0;
        std::set<std::string> peers;
    };

    // Numbers of slots begin anew after the last one, so they are compared by how far they are apart.
    [[nodiscard]] std::vector<vault::KeySlot> slots() const {
        std::vector<vault::KeySlot> out;
        out.reserve(keys_.size());
        for (const auto& [slot, users] : keys_) out.push_back(slot);
        constexpr int kSlots = vault::kServerSlots;
        const auto age = [first = out.empty() ? 0 : static_cast<int>(out.front())](vault::KeySlot slot) {
            const int ahead = (static_cast<int>(slot) - first + kSlots) % kSlots;
            return ahead < kSlots / 2 ? -ahead : kSlots - ahead;
        };
        std::ranges::sort(out, {}, age);
        return out;
    }

    std::map<vault::KeySlot, Users> keys_;
};

}  // namespace

void fill(status::Snapshot& snapshot, const Sources& sources) {
    for (const auto& service : sources.config.services)
        snapshot.services.push_back(service_of(service, sources.counters));
    auto peers = peers_of(sources);
    std::vector<const serve::SessionReport*> sessions;
    for (const auto& report : sources.reports) {
        snapshot.vault.connected += report.has_vault ? 1 : 0;
        snapshot.cookie_key_age = std::max(snapshot.cookie_key_age, report.cookie_key_age);
        for (const auto& session : report.sessions) sessions.push_back(&session);
    }
    snapshot.vault.workers = sources.reports.size();
    std::ranges::sort(sessions, {}, [](const auto* session) { return session->lasted; });
    ServerKeys server_keys;
    const auto services = by_name(snapshot.services);
    for (const auto* session : sessions) {
        server_keys.add(*session);
        const auto known = peers.find(session->peer);
        status::Peer& peer = known != peers.end() ? known->second : peers[""];
        ++peer.sessions;
        peer.traffic.bytes_in += session->bytes_in;
        peer.traffic.bytes_out += session->bytes_out;
        if (const auto service = services.find(session->service); service != services.end()) {
            service->second->traffic.bytes_in += session->bytes_in;
            service->second->traffic.bytes_out += session->bytes_out;
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
                                        {session->bytes_in, session->bytes_out},
                                        session->server_key ? session->server_key->key.text() : ""});
    }
    snapshot.server_keys = server_keys.newest_first();
    for (auto& [name, peer] : peers) snapshot.peers.push_back(std::move(peer));
    for (const auto& [reason, count] : sources.counters.refusals())
        snapshot.refusals.emplace(std::string(reason), count);
    snapshot.half_open = sources.admission.half_open();
    snapshot.sessions_limit = sources.config.sessions;
    snapshot.half_open_limit = sources.admission.limits().half_open;
    snapshot.half_open_per_source = sources.admission.limits().half_open_per_source;
    snapshot.hellos_answered = sources.counters.hellos_answered;
    snapshot.hellos_dropped = sources.counters.hellos_dropped;
    // There, "in" is out of the tunnel; here the counters look from the application.
    snapshot.datagrams_in = sources.counters.datagrams_out;
    snapshot.datagrams_out = sources.counters.datagrams_in;
    snapshot.datagrams_dropped = sources.counters.datagrams_dropped;
}

}  // namespace curvegate::daemon::front
