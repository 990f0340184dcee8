#include "log/log.hpp"
#include "net/clock.hpp"
#include "net/worker_connection.hpp"

#include <algorithm>

/// The client ends of services: plain in, tunnel out.
namespace curvegate::net {

void Worker::serve_plain(SpecPtr spec, Stream stream, std::string source) {
    // Not left to the listening socket: what came before it had them would be without, and a cut of its
    // tunnel would look like an end.
    set_plain_options(stream.native_handle());
    auto connection = std::make_shared<Connection>(*this, std::move(spec), std::move(source));
    connection->peer = connection->spec.peer;
    if (!take_slot(*connection, std::nullopt))
        return not_connected(connection, std::move(stream), *connection->turned_away);
    add(connection);
    if (connection->spec.carrier == Carrier::curvecp) {
        open_stream_tunnel(connection, std::move(stream));
    } else {
        open_tunnel(connection, std::move(stream));
    }
}

void Worker::open_tunnel(const std::shared_ptr<Connection>& connection, Stream plain) {
    const ServiceSpec& spec = connection->spec;
    TunnelTarget target{spec.connect, spec.peer, keys_to_try(spec)};
    dial_tunnel(context_, *shared_.resolver, tools(), std::move(target), now() + spec.connect_timeout,
                [this, connection, plain = std::move(plain)](Result<Established> result) mutable {
                    if (!result) return not_connected(connection, std::move(plain), result.error());
                    const auto may = may_greet(connection->spec, result->peer, connection->source);
                    if (!may) return not_connected(connection, std::move(plain), may.error());
                    greeted(connection->spec, result->peer);
                    connection->key = result->peer;
                    connection->log_handshake();
                    set_tunnel_options(result->stream.native_handle(), connection->spec.dead_peer);
                    connection->forward(std::move(plain), std::move(*result));
                });
}

void Worker::open_stream_tunnel(const std::shared_ptr<Connection>& connection, Stream plain) {
    const ServiceSpec& spec = connection->spec;
    dial_stream(context_, *shared_.resolver, tools(), stream_target(spec), now() + spec.connect_timeout,
                [this, connection, plain = std::move(plain)](Result<DialedStream> result) mutable {
                    if (!result) return not_connected(connection, std::move(plain), result.error());
                    const auto may = may_greet(connection->spec, result->peer, connection->source);
                    if (!may) return not_connected(connection, std::move(plain), may.error());
                    greeted(connection->spec, result->peer);
                    connection->key = result->peer;
                    connection->log_handshake();
                    watch(*result->tunnel, connection);
                    connection->forward(std::move(plain), std::move(result->tunnel));
                });
}

void Worker::greeted(const ServiceSpec& spec, const crypto::PublicKey& server) {
    ++shared_.counters->handshakes;
    ++spec.counters->handshakes;
    shared_.counters->peer_came(known_name(spec.peer), server.text(), wall_now());
    last_good_.insert_or_assign(spec.name, server);
}

// The server has proven its key. Error: it cannot be written that we go on with it.
Result<> Worker::may_greet(const ServiceSpec& spec, const crypto::PublicKey& server,
                           const std::string& source) {
    if (shared_.audit->let_in({spec.name, spec.peer, server, source, {}})) return {};
    return fail(AuditErrc::unavailable);
}

// A server that is not the pinned one, or none is pinned: a decision. A network that fails is none.
void Worker::not_greeted(const ServiceSpec& spec, const std::string& source, const Error& why) {
    shared_.counters->refuse(why);
    ++spec.counters->refused;
    const bool decided =
        why.is(DialErrc::no_pin) || why.is(DialErrc::wrong_key) || why.is(DialErrc::no_cookie);
    if (decided) shared_.audit->refused({spec.name, spec.peer, {}, source, why.what()});
    log::limited(log::Level::error, "connect_failed",
                 {{"service", spec.name}, {"peer", spec.peer}, {"reason", why.text()}});
}

void Worker::not_connected(const std::shared_ptr<Connection>& connection, Stream plain, const Error& why) {
    not_greeted(connection->spec, connection->source, why);
    error_code ignored;
    plain.close(ignored);  // a reset, by set_plain_options()
    remove(connection);
}

// In the order of the file, but the one that answered last comes first.
std::vector<crypto::PublicKey> Worker::keys_to_try(const ServiceSpec& spec) const {
    auto keys = registry_->keys_of(spec.peer, wall_now());
    const auto last = last_good_.find(spec.name);
    if (last == last_good_.end()) return keys;
    const auto good = std::ranges::find(keys, last->second);
    if (good != keys.end()) std::rotate(keys.begin(), good, good + 1);
    return keys;
}

bool Worker::is_pinned(const ServiceSpec& spec, const crypto::PublicKey& server) const {
    const auto keys = registry_->keys_of(spec.peer, wall_now());
    return std::ranges::find(keys, server) != keys.end();
}

StreamTarget Worker::stream_target(const ServiceSpec& spec) const {
    return {spec.connect, spec.peer, keys_to_try(spec), spec.extensions, *spec.server_name, spec.dead_peer};
}

// ---- a service with datagrams ----

Flows::Limits Worker::flow_limits(const ServiceSpec& spec) {
    return {spec.flows, std::min(spec.flow_idle, spec.idle), spec.dead_peer, spec.max_session};
}

void Worker::serve_datagrams(Open& door, os::UniqueFd listening) {
    door.flows = std::make_unique<Flows>(
        context_, std::move(listening), flow_limits(*door.specs->front()), *shared_.counters,
        [this, &door](const std::string& source, Flows::DialedFn done) {
            open_flow(door.specs->front(), source, std::move(done));
        },
        [this, &door] { session_begins(*door.specs->front()); },
        [this, &door](const std::string& source, const ForwarderSummary& summary) {
            const ServiceSpec& spec = *door.specs->front();
            const bool revoked = summary.ending == Ending::revoked;
            const bool closed = summary.ending == Ending::stopped && !draining_;
            if (revoked) shared_.audit->ended({spec.name, spec.peer, {}, source, describe(DialErrc::no_pin)});
            if (closed) shared_.audit->ended({spec.name, spec.peer, {}, source, kPortClosed});
            session_ended(spec, spec.peer, source, summary);
        },
        shared_.addresses);
    door.flows->start();
}

void Worker::open_flow(const SpecPtr& service, const std::string& source, Flows::DialedFn done) {
    const ServiceSpec& spec = *service;
    ++shared_.counters->accepted;
    ++spec.counters->accepted;
    if (!sweeping_) sweep();
    const auto finish = [this, service, source]<class Tunnel>(Result<Tunnel>& result, Flows::DialedFn& tell,
                                                              auto take) {
        // A reload may have taken the pin away while this was dialled.
        if (result && !is_pinned(*service, result->peer)) result = fail(DialErrc::no_pin, service->peer);
        if (result) {
            if (auto may = may_greet(*service, result->peer, source); !may) result = fail(std::move(may));
        }
        if (!result) {
            not_greeted(*service, source, result.error());
            return tell(fail(std::move(result)));
        }
        greeted(*service, result->peer);
        log::event(log::Level::info, "handshake_ok",
                   {{"service", service->name}, {"peer", service->peer}, {"src", source}});
        tell(pipe_of(take(*result), service->dead_peer));
    };
    const Instant deadline = now() + spec.connect_timeout;
    if (spec.carrier == Carrier::curvecp) {
        return dial_stream(context_, *shared_.resolver, tools(), stream_target(spec), deadline,
                           [this, finish, done = std::move(done)](Result<DialedStream> result) mutable {
                               if (result) watch(*result->tunnel, nullptr);
                               finish(result, done,
                                      [](DialedStream& dialed) { return std::move(dialed.tunnel); });
                           });
    }
    dial_tunnel(context_, *shared_.resolver, tools(), {spec.connect, spec.peer, keys_to_try(spec)}, deadline,
                [finish, done = std::move(done)](Result<Established> result) mutable {
                    finish(result, done, [](Established& established) { return std::move(established); });
                });
}

}  // namespace curvegate::net
