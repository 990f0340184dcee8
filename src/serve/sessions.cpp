#include "serve/sessions.hpp"

#include "io/clock.hpp"
#include "io/dial_error.hpp"
#include "log/log.hpp"

#include <algorithm>

namespace curvegate::serve {
namespace {

std::string seconds_of(Duration duration) {
    const auto tenths = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count() / 100;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10);
}

bool is_truncation(forward::Ending ending) {
    switch (ending) {
        case forward::Ending::tunnel_cut:
        case forward::Ending::unheard_end:
        case forward::Ending::bad_message:
        case forward::Ending::bad_length:
        case forward::Ending::after_end:
        case forward::Ending::numbers_used_up:
        case forward::Ending::dead_peer:
        case forward::Ending::no_answer:
        case forward::Ending::cannot_ask: return true;
        default: return false;
    }
}

}  // namespace

Sessions::Sessions(Shared shared, tunnel::Environment lent)
    : shared_(std::move(shared)),
      lent_(std::move(lent)),
      registry_(std::make_shared<const registry::Registry>(std::vector<registry::Entry>())) {}

// ---- who may be here ----

void Sessions::set_services(const std::vector<Door>& doors) {
    services_.clear();
    for (const Door& door : doors) {
        for (const SpecPtr& spec : door.specs) services_.emplace(spec->id, spec);
    }
}

SpecPtr Sessions::service_now(guard::ServiceId id) const {
    const auto found = services_.find(id);
    return found != services_.end() ? found->second : nullptr;
}

bool Sessions::is_pinned(const std::string& peer, const crypto::PublicKey& key) const {
    const auto keys = registry_->keys_of(peer, io::wall_now());
    return std::ranges::find(keys, key) != keys.end();
}

std::optional<Sessions::Unwelcome> Sessions::unwelcome(const Connection& connection,
                                                       const IpAddress& source) const {
    const SpecPtr service = service_now(connection.spec().id);
    if (!service) return Unwelcome{forward::Ending::service_gone, describe(forward::Ending::service_gone)};
    if (!connection.key) return std::nullopt;  // it has proven nothing yet, and is looked at when it has
    if (service->side == Side::client) {
        if (service->expects(connection.peer) && is_pinned(connection.peer, *connection.key))
            return std::nullopt;
        return Unwelcome{forward::Ending::revoked, describe(io::DialErrc::no_pin)};
    }
    const auto decision = registry_->authorise(*connection.key, service->allow, source, io::wall_now());
    if (decision.verdict == registry::Verdict::allowed) return std::nullopt;
    return Unwelcome{forward::Ending::revoked, describe(decision.verdict)};
}

std::size_t Sessions::end_unwelcome() const {
    std::size_t ended = 0;
    for (const auto& connection : all()) {
        if (connection->is_cut()) continue;
        const auto why = unwelcome(*connection);
        if (!why) continue;
        connection->cut(why->ending, why->why);
        ++ended;
    }
    return ended;
}

std::string Sessions::known_name(const std::string& peer) const {
    return registry_->has_name(peer) ? peer : std::string();
}

// ---- who is here ----

void Sessions::add(const std::shared_ptr<Connection>& connection) {
    connections_.insert(connection);
    on_arrival();
}

void Sessions::remove(const std::shared_ptr<Connection>& connection) {
    connections_.erase(connection);
    tell_if_empty();
}

// Where the wire delivers the last bytes, and not the kernel, this goes on until it has.
std::weak_ptr<tunnel::Remains> Sessions::watch(tunnel::Tunnel& tunnel, std::shared_ptr<const void> keep) {
    auto remains = tunnel.outlive(std::move(keep), [this] {
        if (undelivered_ > 0) --undelivered_;
        tell_if_empty();
    });
    if (!remains.expired()) ++undelivered_;
    return remains;
}

void Sessions::tell_if_empty() {
    const bool empty = connections_.empty() && undelivered_ == 0;
    if (empty && when_empty_) std::exchange(when_empty_, nullptr)();
}

std::vector<std::shared_ptr<Connection>> Sessions::all() const {
    return {connections_.begin(), connections_.end()};
}

void Sessions::tell_when_empty(std::function<void()> when_empty) {
    when_empty_ = std::move(when_empty);
    tell_if_empty();
}

void Sessions::cut_all() {
    for (const auto& connection : all()) connection->cut(forward::Ending::stopped);
    connections_.clear();  // those that were still dialling
    undelivered_ = 0;
    tell_if_empty();
}

// Returns false if a limit is reached, and noted at the connection.
bool Sessions::take_slot(Connection& connection, const std::optional<guard::SessionLimits::Client>& client) {
    connection.turned_away.reset();
    connection.slot.reset();
    auto slot = shared_.sessions->take(connection.spec().id, client, connection.spec().most());
    if (!slot) {
        connection.turned_away = std::move(slot).error();
        return false;
    }
    connection.slot = std::make_shared<const guard::SessionLimits::Slot>(std::move(*slot));
    return true;
}

// ---- what is counted ----

void Sessions::came(const ServiceSpec& spec) {
    ++shared_.counters->accepted;
    ++spec.counters->accepted;
}

void Sessions::session_begins(const ServiceSpec& spec) {
    ++shared_.counters->sessions;
    ++spec.counters->sessions;
}

void Sessions::session_ended(const ServiceSpec& spec, const forward::Flows::Who& who,
                             const forward::ForwarderSummary& summary) {
    auto& counters = *shared_.counters;
    --counters.sessions;
    --spec.counters->sessions;
    if (is_truncation(summary.ending)) ++counters.truncations, ++spec.counters->truncations;
    counters.bytes_up += summary.bytes_up;
    counters.bytes_down += summary.bytes_down;
    spec.counters->bytes_out += summary.bytes_up;
    spec.counters->bytes_in += summary.bytes_down;
    counters.peer_left(known_name(who.peer), summary.bytes_down, summary.bytes_up);
    // Datagrams have no end but that they cease.
    const bool ceased = spec.plain == PlainSide::datagrams && (summary.ending == forward::Ending::idle ||
                                                               summary.ending == forward::Ending::evicted);
    const bool as_it_should = summary.ending == forward::Ending::orderly || ceased;
    log_of(spec, who, [&](const auto&... where) {
        log::event(as_it_should ? log::Level::info : log::Level::warning, "session_close",
                   {where...,
                    {"reason", std::string(describe(summary.ending))},
                    {"bytes_in", summary.bytes_down},
                    {"bytes_out", summary.bytes_up},
                    log::Field::decimal("duration_s", seconds_of(summary.lasted))});
    });
}

}  // namespace curvegate::serve
