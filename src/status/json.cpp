#include "status/json.hpp"

#include "base/json.hpp"
#include "status/units.hpp"

#include <algorithm>

namespace curvegate::status {
namespace {

/// Seconds and milliseconds; negative as zero.
std::string seconds_text(Duration value) {
    using std::chrono::milliseconds;
    const auto all = static_cast<std::uint64_t>(
        std::max(std::chrono::duration_cast<milliseconds>(value), milliseconds(0)).count());
    return std::to_string(all / 1'000) + "." + std::to_string(1'000 + all % 1'000).substr(1);
}

void write(JsonWriter& out, const Traffic& traffic) {
    out.key("bytes_in").number(traffic.bytes_in).key("bytes_out").number(traffic.bytes_out);
}

void write(JsonWriter& out, const Target& target) {
    out.open('{').key("target").text(target.address).key("up").boolean(target.up);
    out.key("rests_s").decimal(seconds_text(target.rests)).close('}');
}

void write(JsonWriter& out, const Service& service);
void write(JsonWriter& out, const Peer& peer);
void write(JsonWriter& out, const Connection& connection);
void write(JsonWriter& out, const ServerKey& key);

template <class Items>
void write_all(JsonWriter& out, std::string_view key, const Items& items) {
    out.key(key).open('[');
    for (const auto& item : items) write(out, item);
    out.close(']');
}

void write(JsonWriter& out, const Service& service) {
    out.open('{').key("service").text(service.name).key("side").text(service.side);
    out.key("wire").text(service.wire).key("accept").text(service.accept);
    out.key("connect").text(service.connect).key("sessions").number(service.sessions);
    out.key("accepted").number(service.accepted).key("handshakes").number(service.handshakes);
    out.key("refused").number(service.refused).key("truncations").number(service.truncations);
    write(out, service.traffic);
    out.key("limits").open('{').key("sessions_per_service").number(service.limits.per_service);
    if (service.side == "server") {
        out.key("sessions_per_peer").number(service.limits.per_peer);
        out.key("sessions_per_source").number(service.limits.per_source);
    }
    out.close('}');
    write_all(out, "targets", service.targets);
    out.close('}');
}

void write(JsonWriter& out, const Peer& peer) {
    out.open('{').key("peer").text(peer.name).key("peer_key").text(peer.key);
    out.key("sessions").number(peer.sessions).key("handshakes").number(peer.handshakes);
    write(out, peer.traffic);
    out.key("last_handshake");
    if (peer.last_handshake) {
        out.text(time_text(*peer.last_handshake));
    } else {
        out.null();
    }
    out.close('}');
}

void write(JsonWriter& out, const Connection& connection) {
    out.open('{').key("session").number(connection.id).key("service").text(connection.service);
    out.key("peer").text(connection.peer).key("src").text(connection.source);
    out.key("since").text(time_text(connection.since));
    write(out, connection.traffic);
    out.key("server_key");
    if (connection.server_key.empty()) {
        out.null();
    } else {
        out.text(connection.server_key);
    }
    out.close('}');
}

void write(JsonWriter& out, const ServerKey& key) {
    out.open('{').key("server_key").text(key.key).key("sessions").number(key.sessions);
    out.key("peers").number(key.peers).key("names").open('[');
    for (const auto& name : key.names) out.text(name);
    out.close(']').close('}');
}

void write_configuration(JsonWriter& out, const Snapshot& snapshot) {
    out.key("generation").number(snapshot.generation).key("loaded").text(time_text(snapshot.loaded));
    out.key("reload_error");
    if (snapshot.reload_error) {
        out.text(*snapshot.reload_error);
    } else {
        out.null();
    }
    out.key("reloads").number(snapshot.reloads).key("reload_failures").number(snapshot.reload_failures);
}

void write_counts(JsonWriter& out, const Snapshot& snapshot) {
    out.key("half_open").number(snapshot.half_open);
    out.key("limits").open('{').key("sessions").number(snapshot.sessions_limit);
    out.key("half_open").number(snapshot.half_open_limit);
    out.key("half_open_per_source").number(snapshot.half_open_per_source).close('}');
    out.key("hellos_answered").number(snapshot.hellos_answered);
    out.key("hellos_dropped").number(snapshot.hellos_dropped);
    out.key("datagrams_in").number(snapshot.datagrams_in);
    out.key("datagrams_out").number(snapshot.datagrams_out);
    out.key("datagrams_dropped").number(snapshot.datagrams_dropped);
    out.key("revocations").number(snapshot.revocations);
    out.key("audit_failures").number(snapshot.audit_failures);
    out.key("refusals").open('{');
    for (const auto& [reason, count] : snapshot.refusals) out.key(reason).number(count);
    out.close('}');
}

}  // namespace

std::string render_json(const Snapshot& snapshot) {
    JsonWriter out;
    out.open('{').key("ts").text(time_text(snapshot.now)).key("version").text(snapshot.version);
    out.key("started").text(time_text(snapshot.started));
    out.key("uptime_s").decimal(seconds_text(snapshot.uptime));
    out.key("workers").number(snapshot.workers).key("draining").boolean(snapshot.draining);
    write_configuration(out, snapshot);
    out.key("vault").open('{').key("connected").number(snapshot.vault.connected);
    out.key("workers").number(snapshot.vault.workers).key("lost").number(snapshot.vault.lost).close('}');
    out.key("cookie_key_age_s").decimal(seconds_text(snapshot.cookie_key_age));
    write_counts(out, snapshot);
    write_all(out, "services", snapshot.services);
    write_all(out, "peers", snapshot.peers);
    write_all(out, "connections", snapshot.connections);
    out.key("connections_left_out").number(snapshot.connections_left_out);
    write_all(out, "server_keys", snapshot.server_keys);
    out.close('}');
    return out.take();
}

}  // namespace curvegate::status
