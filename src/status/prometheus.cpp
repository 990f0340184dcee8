#include "status/prometheus.hpp"

#include "base/utf8.hpp"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <utility>

namespace curvegate::status {
namespace {

enum class Type { counter, gauge };

struct Label {
    std::string_view name;
    std::string_view value;
};
using Labels = std::initializer_list<Label>;

/// A label's value between its quotes. What is no UTF-8, and controls, become U+FFFD.
std::string label_text(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto c = first_of(text);
        text.remove_prefix(c.size);
        if (c.valid && c.value == '\n') {
            out += "\\n";
        } else if (!c.valid || is_control(c.value)) {
            append_utf8(out, 0xfffd);
        } else {
            if (c.value == '"' || c.value == '\\') out += '\\';
            append_utf8(out, c.value);
        }
    }
    return out;
}

class Page {
  public:
    /// Samples of this name follow. `help` is a text of our own: no backslash, no line's end.
    Page& family(std::string_view name, Type type, std::string_view help) {
        name_ = "curvegate_" + std::string(name);
        out_ += "# HELP " + name_ + " " + std::string(help) + "\n";
        out_ += "# TYPE " + name_ + (type == Type::counter ? " counter\n" : " gauge\n");
        return *this;
    }
    Page& sample(std::string_view value, Labels labels = {}) {
        out_ += name_;
        char before = '{';
        for (const auto& [name, text] : labels) {
            out_ += before;
            out_ += std::string(name) + "=\"" + label_text(text) + "\"";
            before = ',';
        }
        if (labels.size() != 0) out_ += '}';
        out_ += ' ';
        out_ += value;
        out_ += '\n';
        return *this;
    }
    Page& sample(std::uint64_t value, Labels labels = {}) { return sample(std::to_string(value), labels); }
    Page& seconds(Duration value) {
        using std::chrono::milliseconds;
        const auto all = static_cast<std::uint64_t>(
            std::max(std::chrono::duration_cast<milliseconds>(value), milliseconds(0)).count());
        return sample(std::to_string(all / 1'000) + "." + std::to_string(1'000 + all % 1'000).substr(1));
    }
    Page& time(WallTime value, Labels labels = {}) {
        return sample(std::to_string(value.time_since_epoch().count()), labels);
    }
    [[nodiscard]] std::string take() { return std::move(out_); }

  private:
    std::string out_;
    std::string name_;
};

/// Items that look the same on the page are one: a series must not come twice.
template <class Item>
using ByLabel = std::map<std::string, Item, std::less<>>;

void add(Traffic& to, const Traffic& more) {
    to.bytes_in += more.bytes_in;
    to.bytes_out += more.bytes_out;
}

ByLabel<Service> merged(const std::vector<Service>& services) {
    ByLabel<Service> out;
    for (const auto& service : services) {
        const auto [found, fresh] = out.try_emplace(label_text(service.name), service);
        if (fresh) continue;
        Service& sum = found->second;
        sum.sessions += service.sessions;
        sum.accepted += service.accepted;
        sum.handshakes += service.handshakes;
        sum.truncations += service.truncations;
        sum.refused += service.refused;
        add(sum.traffic, service.traffic);
    }
    return out;
}

ByLabel<Peer> merged(const std::vector<Peer>& peers) {
    ByLabel<Peer> out;
    for (Peer peer : peers) {
        if (peer.name.empty()) peer.name = "*";
        const auto [found, fresh] = out.try_emplace(label_text(peer.name), peer);
        if (fresh) continue;
        Peer& sum = found->second;
        sum.sessions += peer.sessions;
        sum.handshakes += peer.handshakes;
        sum.last_handshake = std::max(sum.last_handshake, peer.last_handshake);
        add(sum.traffic, peer.traffic);
    }
    return out;
}

/// A family with one sample an item, whose value is a member.
template <class Item>
void family_of(Page& page, const ByLabel<Item>& items, std::string_view label, std::uint64_t Item::* member) {
    for (const auto& [_, item] : items) page.sample(item.*member, {{label, item.name}});
}

template <class Item>
void bytes_of(Page& page, const ByLabel<Item>& items, std::string_view label) {
    for (const auto& [_, item] : items) {
        page.sample(item.traffic.bytes_in, {{label, item.name}, {"direction", "in"}});
        page.sample(item.traffic.bytes_out, {{label, item.name}, {"direction", "out"}});
    }
}

void put_daemon(Page& page, const Snapshot& snapshot) {
    page.family("build_info", Type::gauge, "Always 1; the version is a label.")
        .sample(1, {{"version", snapshot.version}});
    page.family("start_time_seconds", Type::gauge, "When the daemon started, as Unix time.")
        .time(snapshot.started);
    page.family("uptime_seconds", Type::gauge, "Steady time since the daemon started.")
        .seconds(snapshot.uptime);
    page.family("workers", Type::gauge, "Worker threads.").sample(snapshot.workers);
    page.family("draining", Type::gauge, "1 while the daemon takes no new connections and ends.")
        .sample(snapshot.draining ? 1 : 0);
    page.family("vault_connected_workers", Type::gauge, "Workers that have a connection to the vault now.")
        .sample(snapshot.vault.connected);
    page.family("vault_needed_workers", Type::gauge, "Workers that need a connection to the vault.")
        .sample(snapshot.vault.workers);
    page.family("vault_losses_total", Type::counter, "Connections to the vault that were lost.")
        .sample(snapshot.vault.lost);
    page.family("cookie_key_age_seconds", Type::gauge, "Age of the key that seals cookies now.")
        .seconds(snapshot.cookie_key_age);
}

void put_configuration(Page& page, const Snapshot& snapshot) {
    page.family("config_generation", Type::gauge, "Number of the configuration in force.")
        .sample(snapshot.generation);
    page.family("config_last_reload_success_timestamp_seconds", Type::gauge,
                "When the configuration in force was loaded, as Unix time.")
        .time(snapshot.loaded);
    page.family("config_last_reload_successful", Type::gauge, "0 if the last reload failed.")
        .sample(snapshot.reload_error ? 0 : 1);
    page.family("config_reloads_total", Type::counter, "Reloads by result.")
        .sample(snapshot.reloads, {{"result", "ok"}})
        .sample(snapshot.reload_failures, {{"result", "error"}});
    page.family("revocations_total", Type::counter, "Keys that were revoked while the daemon ran.")
        .sample(snapshot.revocations);
    page.family("audit_failures_total", Type::counter, "Audit records that could not be written.")
        .sample(snapshot.audit_failures);
}

void put_services(Page& page, const Snapshot& snapshot) {
    const auto services = merged(snapshot.services);
    page.family("service_info", Type::gauge, "Always 1; what the service is, as labels.");
    for (const auto& [_, service] : services) {
        page.sample(1, {{"service", service.name}, {"side", service.side}, {"wire", service.wire}});
    }
    page.family("connections", Type::gauge, "Sessions that are open, by service.");
    family_of(page, services, "service", &Service::sessions);
    page.family("connections_total", Type::counter, "Connections that were accepted, by service.");
    family_of(page, services, "service", &Service::accepted);
    page.family("service_handshakes_total", Type::counter, "Handshakes that succeeded, by service.");
    family_of(page, services, "service", &Service::handshakes);
    page.family("service_refusals_total", Type::counter, "Connections that were refused, by service.");
    family_of(page, services, "service", &Service::refused);
    page.family("service_truncations_total", Type::counter,
                "Sessions that were cut without an authenticated end, by service.");
    family_of(page, services, "service", &Service::truncations);
    page.family("bytes_total", Type::counter,
                "Payload by service; in: from the tunnel to the application, out: the other way.");
    bytes_of(page, services, "service");
    page.family("target_up", Type::gauge, "0 if the last try to reach this target of the service failed.");
    for (const auto& [_, service] : services) {
        std::set<std::string> seen;
        for (const auto& target : service.targets) {
            if (!seen.insert(label_text(target.address)).second) continue;
            page.sample(target.up ? 1 : 0, {{"service", service.name}, {"target", target.address}});
        }
    }
}

void put_peers(Page& page, const Snapshot& snapshot) {
    const auto peers = merged(snapshot.peers);
    page.family("peer_up", Type::gauge, "1 if the peer has a session.");
    for (const auto& [_, peer] : peers) page.sample(peer.sessions != 0 ? 1 : 0, {{"peer", peer.name}});
    page.family("peer_connections", Type::gauge, "Sessions that are open, by peer.");
    family_of(page, peers, "peer", &Peer::sessions);
    page.family("peer_handshakes_total", Type::counter, "Handshakes that succeeded, by peer.");
    family_of(page, peers, "peer", &Peer::handshakes);
    page.family("peer_last_handshake_timestamp_seconds", Type::gauge,
                "When the peer's last handshake succeeded, as Unix time; absent if none did.");
    for (const auto& [_, peer] : peers) {
        if (peer.last_handshake) page.time(*peer.last_handshake, {{"peer", peer.name}});
    }
    page.family("peer_bytes_total", Type::counter,
                "Payload by peer; in: from the tunnel to the application, out: the other way.");
    bytes_of(page, peers, "peer");
}

void put_handshakes(Page& page, const Snapshot& snapshot) {
    std::uint64_t sessions = 0;
    std::uint64_t handshakes = 0;
    for (const auto& service : snapshot.services) {
        sessions += service.sessions;
        handshakes += service.handshakes;
    }
    page.family("sessions", Type::gauge, "Sessions that are open.").sample(sessions);
    page.family("handshakes_in_progress", Type::gauge, "Handshakes that have begun and not ended.")
        .sample(snapshot.half_open);
    page.family("handshakes_total", Type::counter, "Handshakes by result and reason.")
        .sample(handshakes, {{"result", "ok"}, {"reason", ""}});
    ByLabel<std::uint64_t> refusals;
    for (const auto& [reason, count] : snapshot.refusals) refusals[label_text(reason)] += count;
    std::set<std::string, std::less<>> seen;
    for (const auto& [reason, _] : snapshot.refusals) {
        const auto text = label_text(reason);
        if (seen.insert(text).second)
            page.sample(refusals[text], {{"result", "refused"}, {"reason", reason}});
    }
    page.family("cookies_sent_total", Type::counter, "Hellos over UDP that were answered by a cookie.")
        .sample(snapshot.hellos_answered);
    page.family("hellos_dropped_total", Type::counter,
                "Hellos over UDP that were dropped: crowded out, or waited too long for the vault.")
        .sample(snapshot.hellos_dropped);
    page.family("datagrams_total", Type::counter,
                "Datagrams; in: from the tunnel to the application, out: the other way.")
        .sample(snapshot.datagrams_in, {{"direction", "in"}})
        .sample(snapshot.datagrams_out, {{"direction", "out"}});
    page.family("datagrams_dropped_total", Type::counter,
                "Datagrams that were too long or found no way in time.")
        .sample(snapshot.datagrams_dropped);
}

}  // namespace

std::string render_prometheus(const Snapshot& snapshot) {
    Page page;
    put_daemon(page, snapshot);
    put_configuration(page, snapshot);
    put_services(page, snapshot);
    put_peers(page, snapshot);
    put_handshakes(page, snapshot);
    return page.take();
}

}  // namespace curvegate::status
