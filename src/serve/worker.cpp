#include "serve/worker.hpp"

#include "io/clock.hpp"
#include "log/log.hpp"
#include "os/secret_pages.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <unordered_set>

namespace curvegate::serve {
namespace {

// Bounds the locked memory of one worker, in slots of 32 bytes: a session holds two or three, a handshake a
// few.
constexpr std::size_t kMaxSecrets = 262'144;
constexpr Duration kSweep = std::chrono::seconds(5);
constexpr Duration kShortestSweep = std::chrono::milliseconds(100);
constexpr Duration kExpirySweep = std::chrono::seconds(1);

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
    : pool_(std::move(pool)),
      keeper_(std::move(keeper)),
      vault_(context_, shared.timeouts.vault, vault_client::VaultClient::Detached::wait),
      cookie_timer_(context_),
      sweep_timer_(context_),
      sessions_(shared, lent(shared)),
      server_end_(sessions_),
      client_end_(sessions_) {
    sessions_.on_arrival = [this] {
        if (!sweeping_) sweep();
    };
    vault_.on_lost = [this](std::string_view why) {
        log::limited(log::Level::error, "vault_lost", {{"reason", std::string(why)}});
        if (on_vault_lost) on_vault_lost();
    };
    vault_.on_key_dropped = [this](vault::KeySlot dropped) { end_sessions_of(dropped); };
    cycle_cookie_keys();
}

Worker::~Worker() {
    vault_.on_key_dropped = nullptr;
    vault_.on_lost = nullptr;
    vault_.detach();  // while what its callers reach still stands
}

tunnel::Environment Worker::lent(const Shared& shared) {
    return {&context_,
            shared.resolver,
            {&vault_, &keeper_, pool_.get(), &random_, &chunks_, shared.timeouts},
            &scratch_,
            shared.admission,
            shared.counters,
            shared.addresses};
}

void Worker::attach_vault(os::UniqueFd socket) {
    asio::post(context_, [this, socket = std::move(socket)]() mutable {
        vault_.attach(std::move(socket));
        server_end_.forget_keys();
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
            log::limited(log::Level::error, "cookie_key_failed", {{"reason", advanced.error().text()}});
        }
        cycle_cookie_keys();
    });
}

void Worker::end_sessions_of(vault::KeySlot dropped) {
    std::size_t ended = 0;
    for (const auto& connection : sessions_.all()) {
        if (connection->server_key != dropped) continue;
        connection->cut(forward::Ending::revoked, "the server's key that it began under was dropped");
        ++ended;
    }
    sessions_.shared().audit->key_dropped(ended);
    log::event(log::Level::warning, "key_compromised", {{"sessions", ended}});
}

// ---- doors ----

void Worker::apply(RegistryPtr registry, std::vector<Door> doors, AppliedFn done) {
    asio::post(context_, [this, registry = std::move(registry), doors = std::move(doors),
                          done = std::move(done)]() mutable {
        sessions_.set_registry(std::move(registry));
        std::size_t ended = draining_ ? 0 : set_doors(std::move(doors));
        ended += end_unwelcome();
        if (done) done(ended);
    });
}

void Worker::apply(RegistryPtr registry, AppliedFn done) {
    asio::post(context_, [this, registry = std::move(registry), done = std::move(done)]() mutable {
        sessions_.set_registry(std::move(registry));
        const std::size_t ended = end_unwelcome();
        if (done) done(ended);
    });
}

std::size_t Worker::set_doors(std::vector<Door> doors) {
    sessions_.set_services(doors);
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
    for (const auto& connection : sessions_.all()) {
        if (!ids.contains(connection->door) || connection->is_cut()) continue;
        const bool gone = !sessions_.service_now(connection->spec().id);
        const forward::Ending why = gone ? forward::Ending::service_gone : forward::Ending::port_closed;
        connection->cut(why, describe(why));
        ++ended;
    }
    for (auto& node : closed) {
        Open& door = node.mapped();
        const bool gone = !sessions_.service_now(door.specs->front()->id);
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

void Worker::listen(Open& door, os::UniqueFd listening) {
    door.listeners.push_back(std::make_unique<io::Listener>(
        context_, std::move(listening), door.specs->front()->name,
        [this, &door](io::Stream stream, std::string source, const IpAddress& address) {
            const SpecPtr& service = door.specs->front();
            if (service->side == Side::server) {
                server_end_.accept(service, std::move(stream), std::move(source), address);
            } else {
                client_end_.accept(service, std::move(stream), std::move(source));
            }
        },
        sessions_.shared().addresses));
    door.listeners.back()->start();
}

void Worker::serve_endpoint(Open& door, os::UniqueFd sessions, os::UniqueFd hellos) {
    const ServiceSpec& service = *door.specs->front();
    door.endpoint = service.wire->make_endpoint(
        sessions_.lent(), std::move(sessions), std::move(hellos), service.options,
        [this, &door](const Path& from) { return server_end_.guest(door.specs, from, door.id); });
    door.endpoint->start();
}

forward::Flows::Limits Worker::flow_limits(const ServiceSpec& spec) {
    return {spec.limits.flows, std::min(spec.limits.flow_idle, spec.limits.idle_timeout),
            spec.limits.dead_peer, spec.limits.max_session};
}

void Worker::serve_datagrams(Open& door, os::UniqueFd listening) {
    door.flows = std::make_unique<forward::Flows>(
        context_, std::move(listening), flow_limits(*door.specs->front()), *sessions_.shared().counters,
        [this, &door](const std::string& source, const io::CancellationPtr& cancellation,
                      forward::Flows::DialedFn done) {
            client_end_.open_flow(door.specs->front(), source, cancellation, std::move(done));
        },
        [this, &door] { sessions_.session_begins(*door.specs->front()); },
        [this, &door](const forward::Flows::Who& who, const forward::ForwarderSummary& summary) {
            client_end_.flow_ended(*door.specs->front(), who, summary);
        },
        sessions_.shared().addresses);
    door.flows->start();
}

std::size_t Worker::end_unwelcome() {
    next_expiry_ = sessions_.registry().next_expiry(io::wall_now());
    if (sweeping_) sweep();  // in time for it
    std::size_t ended = sessions_.end_unwelcome();
    for (auto& [key, door] : doors_) {
        if (!door.flows) continue;
        const ServiceSpec& spec = *door.specs->front();
        const auto is_unwelcome = [&](const forward::Flows::Who& who) {
            return !spec.expects(who.peer) || (who.key && !sessions_.is_pinned(who.peer, *who.key));
        };
        ended += door.flows->cut_if(is_unwelcome, forward::Ending::revoked);
    }
    return ended;
}

void Worker::report(std::move_only_function<void(Report)> done) {
    asio::post(context_, [this, done = std::move(done)]() mutable {
        const Instant at = io::now();
        Report out{{}, vault_.attached(), keeper_.age(at)};
        for (const auto& connection : sessions_.all()) out.sessions.push_back(connection->report(at));
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

void Worker::drain(std::function<void()> when_empty) {
    asio::post(context_, [this, when_empty = std::move(when_empty)]() mutable {
        draining_ = true;
        for (auto& [key, door] : doors_) {
            for (const auto& listener : door.listeners) listener->stop();
            if (door.endpoint) door.endpoint->stop_accepting();
            // Datagrams have no end to wait for.
            if (door.flows) door.flows->stop_accepting(), door.flows->cut(forward::Ending::stopped);
        }
        for (const auto& connection : sessions_.all()) {
            if (connection->spec().plain == PlainSide::datagrams) connection->cut(forward::Ending::stopped);
        }
        sessions_.tell_when_empty(std::move(when_empty));
    });
}

void Worker::cut() {
    asio::post(context_, [this] { sessions_.cut_all(); });
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
    sweeping_ = !sessions_.empty() || flowing;
    if (!sweeping_) return;
    for (const auto& connection : sessions_.all()) every = std::min(every, connection->shortest_limit() / 4);
    sweep_timer_.expires_after(std::max(every, kShortestSweep));
    sweep_timer_.async_wait([this](error_code error) {
        if (error) return;
        if (next_expiry_ && io::wall_now() >= *next_expiry_) (void)end_unwelcome();
        for (const auto& connection : sessions_.all()) connection->sweep(io::now());
        for (auto& [key, door] : doors_) {
            if (door.flows) door.flows->sweep(io::now());
        }
        sweep();
    });
}

}  // namespace curvegate::serve
