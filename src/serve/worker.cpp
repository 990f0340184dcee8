#include "serve/worker.hpp"

#include "io/clock.hpp"
#include "log/log.hpp"
#include "os/secret_pages.hpp"
#include "serve/worker_connection.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>

namespace curvegate::serve {
namespace {

// Bounds the locked memory of one worker, in slots of 32 bytes: a session holds two or three, a handshake a
// few.
constexpr std::size_t kMaxSecrets = 262'144;
constexpr Duration kSweep = std::chrono::seconds(5);
constexpr Duration kShortestSweep = std::chrono::milliseconds(100);
constexpr Duration kExpirySweep = std::chrono::seconds(1);

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

Result<std::unique_ptr<Worker>> Worker::create(const Shared& shared) {
    auto pool = crypto::SecretPool::create(os::secret_pages(), shared.locking, kMaxSecrets);
    if (!pool) return fail(std::move(pool));
    os::SystemRandom random;
    auto keeper = cookie::Keeper::create(**pool, random, io::now());
    if (!keeper) return fail(std::move(keeper));
    return std::unique_ptr<Worker>(new Worker(shared, std::move(*pool), std::move(*keeper)));
}

Worker::Worker(const Shared& shared, std::unique_ptr<crypto::SecretPool> pool, cookie::Keeper keeper)
    : shared_(shared),
      registry_(std::make_shared<const registry::Registry>(std::vector<registry::Entry>())),
      pool_(std::move(pool)),
      keeper_(std::move(keeper)),
      vault_(context_, shared.timeouts.vault, vault_client::VaultClient::Detached::wait),
      cookie_timer_(context_),
      sweep_timer_(context_) {
    vault_.on_lost = [this](std::string_view why) {
        log::limited(log::Level::error, "vault_lost", {{"reason", std::string(why)}});
        if (on_vault_lost) on_vault_lost();
    };
    vault_.on_key_dropped = [this](vault::KeySlot dropped) {
        std::size_t ended = 0;
        for (const auto& connection : all()) {
            if (connection->server_key != dropped) continue;
            connection->cut(forward::Ending::revoked, "the server's key that it began under was dropped");
            ++ended;
        }
        shared_.audit->key_dropped(ended);
        log::event(log::Level::warning, "key_compromised", {{"sessions", ended}});
    };
    cycle_cookie_keys();
}

Worker::~Worker() {
    vault_.on_key_dropped = nullptr;
    vault_.on_lost = nullptr;
    vault_.detach();  // while what its callers reach still stands
}

tunnel::Environment Worker::lent() {
    return {&context_,
            shared_.resolver,
            {&vault_, &keeper_, pool_.get(), &random_, &chunks_, shared_.timeouts},
            &scratch_,
            shared_.admission,
            shared_.counters,
            shared_.addresses};
}

void Worker::attach_vault(os::UniqueFd socket) {
    asio::post(context_, [this, socket = std::move(socket)]() mutable {
        vault_.attach(std::move(socket));
        server_keys_.clear();  // another vault may have other keys in its slots
    });
}

void Worker::stop() {
    context_.stop();
}

void Worker::cycle_cookie_keys() {
    cookie_timer_.expires_at(keeper_.next_deadline());
    cookie_timer_.async_wait([this](error_code error) {
        if (error) return;
        if (auto advanced = keeper_.advance(io::now(), random_); !advanced) {
            log::event(log::Level::error, "cookie_key_failed", {{"reason", advanced.error().text()}});
        }
        cycle_cookie_keys();
    });
}

// ---- who and where ----

void Worker::apply(RegistryPtr registry, std::vector<Door> doors, AppliedFn done) {
    asio::post(context_, [this, registry = std::move(registry), doors = std::move(doors),
                          done = std::move(done)]() mutable {
        registry_ = std::move(registry);
        std::size_t ended = draining_ ? 0 : set_doors(std::move(doors));
        ended += end_unwelcome();
        if (done) done(ended);
    });
}

void Worker::apply(RegistryPtr registry, AppliedFn done) {
    asio::post(context_, [this, registry = std::move(registry), done = std::move(done)]() mutable {
        registry_ = std::move(registry);
        const std::size_t ended = end_unwelcome();
        if (done) done(ended);
    });
}

std::size_t Worker::set_doors(std::vector<Door> doors) {
    services_.clear();
    for (const Door& door : doors) {
        for (const SpecPtr& spec : door.specs) services_.emplace(spec->id, spec);
    }
    std::size_t ended = close_all_but(doors);
    for (Door& door : doors) {
        Open& here = doors_[door.key];
        if (here.id == kNoDoor) here.id = DoorId{++last_door_};
        // Flows belong to the one service that their socket is of.
        const bool other = !here.specs->empty() && here.specs->front()->id != door.specs.front()->id;
        if (here.flows && other) ended += here.flows->cut_all(forward::Ending::port_closed);
        // Of the services that share a UDP port, the one that takes any name is asked last.
        const auto takes_any = [](const SpecPtr& spec) { return !spec->options.server_name; };
        if (const auto any = std::ranges::find_if(door.specs, takes_any); any != door.specs.end())
            std::rotate(any, any + 1, door.specs.end());
        *here.specs = std::move(door.specs);
        open(here, std::move(door.sockets));
    }
    return ended;
}

// Connections over TCP do not need the door that they came by. The packets of a UDP port come by its sockets,
// and end with them.
std::size_t Worker::close_all_but(const std::vector<Door>& doors) {
    std::unordered_set<std::string_view> keys;
    for (const Door& door : doors) keys.insert(door.key);
    std::vector<decltype(doors_)::node_type> closed;  // what is in them does not move
    std::unordered_set<DoorId> ids;
    for (auto here = doors_.begin(); here != doors_.end();) {
        const auto next = std::next(here);
        if (!keys.contains(here->first)) {
            ids.insert(here->second.id);
            closed.push_back(doors_.extract(here));
        }
        here = next;
    }
    std::size_t ended = 0;
    for (const auto& connection : all()) {
        if (!ids.contains(connection->door) || connection->is_cut()) continue;
        const bool gone = !service_now(connection->spec().id);
        const forward::Ending why = gone ? forward::Ending::service_gone : forward::Ending::port_closed;
        connection->cut(why, describe(why));
        ++ended;
    }
    for (auto& node : closed) {
        Open& door = node.mapped();
        const bool gone = !service_now(door.specs->front()->id);
        if (door.flows)
            ended += door.flows->cut_all(gone ? forward::Ending::service_gone : forward::Ending::port_closed);
        if (door.endpoint) door.endpoint->close();
    }
    return ended;
}

void Worker::open(Open& door, std::vector<os::UniqueFd> sockets) {
    const ServiceSpec& spec = *door.specs->front();
    if (door.flows) door.flows->set_limits(flow_limits(spec));
    if (door.endpoint) door.endpoint->set_options(spec.options);
    for (const auto& listener : door.listeners) listener->set_service(spec.name);
    if (sockets.empty()) return;
    if (spec.side == Side::server && spec.transport() == service::Transport::udp)
        return serve_endpoint(door, std::move(sockets.at(0)), std::move(sockets.at(1)));
    if (spec.side == Side::client && spec.plain == PlainSide::datagrams)
        return serve_datagrams(door, std::move(sockets[0]));
    for (auto& socket : sockets) listen(door, std::move(socket));
}

SpecPtr Worker::service_now(guard::ServiceId id) const {
    const auto found = services_.find(id);
    return found != services_.end() ? found->second : nullptr;
}

std::optional<Worker::Unwelcome> Worker::unwelcome(const Connection& connection) const {
    const SpecPtr service = service_now(connection.spec().id);
    if (!service) return Unwelcome{forward::Ending::service_gone, describe(forward::Ending::service_gone)};
    if (!connection.key) return std::nullopt;  // it has proven nothing yet, and is looked at when it has
    if (service->side == Side::client) {
        if (service->expects(connection.peer) && is_pinned(connection.peer, *connection.key))
            return std::nullopt;
        return Unwelcome{forward::Ending::revoked, describe(io::DialErrc::no_pin)};
    }
    const auto decision =
        registry_->authorise(*connection.key, service->allow, connection.address, io::wall_now());
    if (decision.verdict == registry::Verdict::allowed) return std::nullopt;
    return Unwelcome{forward::Ending::revoked, describe(decision.verdict)};
}

std::size_t Worker::end_unwelcome() {
    next_expiry_ = registry_->next_expiry(io::wall_now());
    if (sweeping_) sweep();  // in time for it
    std::size_t ended = 0;
    for (const auto& connection : all()) {
        if (connection->is_cut()) continue;
        const auto why = unwelcome(*connection);
        if (!why) continue;
        connection->cut(why->ending, why->why);
        ++ended;
    }
    for (auto& [key, door] : doors_) {
        if (!door.flows) continue;
        const ServiceSpec& spec = *door.specs->front();
        const auto is_unwelcome = [&](const forward::Flows::Who& who) {
            return !spec.expects(who.peer) || (who.key && !is_pinned(who.peer, *who.key));
        };
        ended += door.flows->cut_if(is_unwelcome, forward::Ending::revoked);
    }
    return ended;
}

// ---- connections ----

void Worker::report(std::move_only_function<void(Report)> done) {
    asio::post(context_, [this, done = std::move(done)]() mutable {
        const Instant at = io::now();
        Report out{{}, vault_.attached(), keeper_.age(at)};
        for (const auto& connection : connections_) out.sessions.push_back(connection->report(at));
        for (const auto& [key, door] : doors_) {
            if (!door.flows) continue;
            const ServiceSpec& spec = *door.specs->front();
            door.flows->show(
                at, [&](const forward::Flows::Who& who, Duration lasted, const forward::Traffic& traffic) {
                    out.sessions.push_back({who.session,
                                            spec.name,
                                            who.peer,
                                            who.source,
                                            lasted,
                                            traffic.bytes_down,
                                            traffic.bytes_up,
                                            {}});
                });
        }
        done(std::move(out));
    });
}

std::vector<std::shared_ptr<Worker::Connection>> Worker::all() const {
    return {connections_.begin(), connections_.end()};
}

void Worker::drain(std::function<void()> when_empty) {
    asio::post(context_, [this, when_empty = std::move(when_empty)]() mutable {
        draining_ = true;
        for (auto& [key, door] : doors_) {
            for (const auto& listener : door.listeners) listener->stop();
            if (door.endpoint) door.endpoint->stop_accepting();
            // Datagrams have no end to wait for.
            if (door.flows) door.flows->stop_accepting(), door.flows->cut(forward::Ending::stopped);
        }
        for (const auto& connection : all()) {
            if (connection->spec().plain == PlainSide::datagrams) connection->cut(forward::Ending::stopped);
        }
        when_empty_ = std::move(when_empty);
        tell_if_empty();
    });
}

void Worker::cut() {
    asio::post(context_, [this] {
        for (const auto& connection : all()) connection->cut(forward::Ending::stopped);
        connections_.clear();  // those that were still dialling
        undelivered_ = 0;
        tell_if_empty();
    });
}

void Worker::add(const std::shared_ptr<Connection>& connection) {
    connections_.insert(connection);
    if (!sweeping_) sweep();
}

void Worker::remove(const std::shared_ptr<Connection>& connection) {
    connections_.erase(connection);
    tell_if_empty();
}

// Where the wire delivers the last bytes, and not the kernel, this goes on until it has.
std::weak_ptr<tunnel::Remains> Worker::watch(tunnel::Tunnel& tunnel, std::shared_ptr<const void> keep) {
    auto remains = tunnel.outlive(std::move(keep), [this] {
        if (undelivered_ > 0) --undelivered_;
        tell_if_empty();
    });
    if (!remains.expired()) ++undelivered_;
    return remains;
}

void Worker::tell_if_empty() {
    const bool empty = connections_.empty() && undelivered_ == 0;
    if (empty && when_empty_) std::exchange(when_empty_, nullptr)();
}

// Only while there are connections: an idle daemon sleeps.
void Worker::sweep() {
    Duration every = next_expiry_ ? kExpirySweep : kSweep;
    bool flowing = false;
    for (const auto& [key, door] : doors_) {
        if (!door.flows) continue;
        flowing = flowing || door.flows->size() > 0;
        every = std::min(every, door.flows->shortest_limit() / 4);
    }
    sweeping_ = !connections_.empty() || flowing;
    if (!sweeping_) return;
    for (const auto& connection : connections_) every = std::min(every, connection->shortest_limit() / 4);
    sweep_timer_.expires_after(std::max(every, kShortestSweep));
    sweep_timer_.async_wait([this](error_code error) {
        if (error) return;
        if (next_expiry_ && io::wall_now() >= *next_expiry_) (void)end_unwelcome();
        for (const auto& connection : all()) connection->sweep(io::now());
        for (auto& [key, door] : doors_) {
            if (door.flows) door.flows->sweep(io::now());
        }
        sweep();
    });
}

// Returns false if a limit is reached, and noted at the connection.
bool Worker::take_slot(Connection& connection, const std::optional<guard::SessionLimits::Client>& client) {
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

void Worker::session_begins(const ServiceSpec& spec) {
    ++shared_.counters->sessions;
    ++spec.counters->sessions;
}

void Worker::session_ended(const ServiceSpec& spec, const forward::Flows::Who& who,
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

// What a table of peers may hold: a key that has no name is no word of ours.
std::string Worker::known_name(const std::string& peer) const {
    return registry_->has_name(peer) ? peer : std::string();
}

// ---- one connection ----

const ServiceSpec& Worker::Connection::shown() const {
    const SpecPtr now = worker_.service_now(spec_->id);  // the worker holds it too
    return now ? *now : *spec_;
}

forward::ForwarderLimits Worker::Connection::limits() const {
    forward::ForwarderLimits out{spec_->limits.idle_timeout, spec_->limits.dead_peer, {}, spec_->drain};
    if (spec_->limits.max_session) out.max_session = io::now() + *spec_->limits.max_session;
    return out;
}

Duration Worker::Connection::shortest_limit() const {
    return std::min({spec_->limits.idle_timeout, spec_->limits.dead_peer,
                     spec_->limits.max_session.value_or(Duration::max())});
}

void Worker::Connection::log_handshake() const {
    log_of(shown(), who(),
           [](const auto&... where) { log::event(log::Level::info, "handshake_ok", {where...}); });
}

void Worker::Connection::cut(forward::Ending why) {
    const auto forwarder = forwarder_;  // it ends, and with it this
    if (forwarder) return forwarder->stop(why);
    cut_ = why;  // as soon as both sides are there
    if (why == forward::Ending::revoked) drop_tunnel();
}

void Worker::Connection::runs_over(tunnel::Tunnel& tunnel) {
    remains_ = worker_.watch(tunnel, slot);
}

void Worker::Connection::drop_tunnel() {
    if (const auto remains = remains_.lock()) remains->drop();
}

void Worker::Connection::cut(forward::Ending why, std::string_view decided) {
    if (decided_.empty()) decided_ = decided;
    cut(why);
}

AuditRecord Worker::Connection::record(std::string_view reason) const {
    const auto& proven = key ? key : refused_key;
    const bool named = !proven || peer != proven->text();
    return {shown().name, named ? std::string_view(peer) : std::string_view(), proven, source, reason};
}

void Worker::Connection::sweep(Instant at) {
    const auto forwarder = forwarder_;  // it may end, and with it this
    if (forwarder) forwarder->sweep(at);
}

SessionReport Worker::Connection::report(Instant at) const {
    const forward::Traffic traffic = forwarder_ ? forwarder_->traffic() : forward::Traffic{};
    SessionReport out{id_, shown().name, peer, source, at - since_, traffic.bytes_down, traffic.bytes_up, {}};
    if (server_public != nullptr) out.server_key = {*server_key, *server_public};
    return out;
}

void Worker::Connection::run(const std::shared_ptr<forward::ForwarderBase>& forwarder) {
    forwarder_ = forwarder;
    worker_.session_begins(*spec_);
    forwarder->start(
        [self = shared_from_this()](const forward::ForwarderSummary& summary) { self->ended(summary); });
    if (const auto why = worker_.unwelcome(*this); !cut_ && why) {  // meanwhile
        cut_ = why->ending;
        decided_ = why->why;
    }
    if (cut_) forwarder->stop(*cut_);
}

void Worker::Connection::ended(const forward::ForwarderSummary& summary) {
    if (!decided_.empty()) worker_.shared_.audit->ended(record(decided_));
    worker_.session_ended(shown(), who(), summary);
    forwarder_.reset();
    if (summary.ending == forward::Ending::revoked) drop_tunnel();  // it was told, and hears nothing more
    worker_.remove(shared_from_this());
}

}  // namespace curvegate::serve
