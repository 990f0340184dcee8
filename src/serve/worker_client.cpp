#include "io/clock.hpp"
#include "io/socket_options.hpp"
#include "log/log.hpp"
#include "serve/worker_connection.hpp"
#include "tunnel/curve_tun/dial.hpp"

#include <algorithm>

/// The client ends of services: plain in, tunnel out.
namespace curvegate::serve {

void Worker::serve_plain(SpecPtr spec, io::Stream stream, std::string source) {
    // Not left to the listening socket: what came before it had them would be without, and a cut of its
    // tunnel would look like an end.
    io::set_plain_options(stream.native_handle(), spec->limits.dead_peer);
    auto connection = std::make_shared<Connection>(*this, std::move(spec), std::move(source));
    connection->peer = connection->spec().targets.front().peer;  // until one has answered
    if (!take_slot(*connection, std::nullopt))
        return not_connected(connection, std::move(stream), *connection->turned_away);
    add(connection);
    if (connection->spec().wire == Wire::curvecp) {
        open_tunnel<tunnel::curvecp::DialedStream>(connection, std::move(stream));
    } else {
        open_tunnel<tunnel::curve_tun::Established>(connection, std::move(stream));
    }
}

// A server that is not the pinned one, or none is pinned: a decision. A network that fails is none.
void Worker::audit_failure(const ServiceSpec& spec, const ServiceTarget& target, const std::string& source,
                           const Error& why) {
    const bool decided =
        why.is(io::DialErrc::no_pin) || why.is(io::DialErrc::wrong_key) || why.is(io::DialErrc::no_cookie);
    if (decided) shared_.audit->refused({spec.name, target.peer, {}, source, why.what()});
}

// `spec` and `target` live as long as the try: it holds the service.
template <class Dialed>
TargetTries<Dialed>::TriedFn Worker::audited(const ServiceSpec& spec, const ServiceTarget& target,
                                             const std::string& source,
                                             typename TargetTries<Dialed>::TriedFn tried) {
    return [this, &spec, &target, source, tried = std::move(tried)](Result<Dialed> result) mutable {
        if (!result) audit_failure(spec, target, source, result.error());
        tried(std::move(result));
    };
}

// One for each wire.
void Worker::dial_server(const SpecPtr& spec, const std::string& source,
                         const io::CancellationPtr& cancellation,
                         TargetTries<tunnel::curve_tun::Established>::DoneFn done) {
    const auto dial = [this, spec, source, cancellation](const ServiceTarget& target, Instant until,
                                                         auto tried) {
        tunnel::curve_tun::dial_tunnel(
            context_, *shared_.resolver, tools(), {target.address, target.peer, keys_to_try(*spec, target)},
            until, audited<tunnel::curve_tun::Established>(*spec, target, source, std::move(tried)),
            cancellation);
    };
    try_targets<tunnel::curve_tun::Established>(spec, io::now() + spec->limits.connect_timeout, dial,
                                                std::move(done));
}

void Worker::dial_server(const SpecPtr& spec, const std::string& source,
                         const io::CancellationPtr& cancellation,
                         TargetTries<tunnel::curvecp::DialedStream>::DoneFn done) {
    const Instant deadline = io::now() + spec->limits.connect_timeout;
    const auto dial = [this, spec, source, deadline, cancellation](const ServiceTarget& target, Instant until,
                                                                   auto tried) {
        tunnel::curvecp::StreamTarget server{target.address,
                                             target.peer,
                                             keys_to_try(*spec, target),
                                             spec->extensions,
                                             *spec->server_name,
                                             spec->limits.dead_peer,
                                             {}};
        // Once it has answered, whatever the others might have needed is its own.
        if (until != deadline) server.confirm_by = deadline;
        tunnel::curvecp::dial_stream(
            context_, *shared_.resolver, tools(), std::move(server), until,
            audited<tunnel::curvecp::DialedStream>(*spec, target, source, std::move(tried)), cancellation);
    };
    try_targets<tunnel::curvecp::DialedStream>(spec, deadline, dial, std::move(done));
}

namespace {

tunnel::curve_tun::Established take_tunnel(tunnel::curve_tun::Established& dialed) {
    return std::move(dialed);
}
tunnel::TunnelHandle take_tunnel(tunnel::curvecp::DialedStream& dialed) {
    return std::move(dialed.tunnel);
}
std::weak_ptr<tunnel::StreamTunnel> below_of(const tunnel::curve_tun::Established&) {
    return {};
}
std::weak_ptr<tunnel::StreamTunnel> below_of(const tunnel::curvecp::DialedStream& dialed) {
    return dialed.tunnel.get_deleter().owner;
}

}  // namespace

template <class Dialed>
void Worker::open_tunnel(const std::shared_ptr<Connection>& connection, io::Stream plain) {
    dial_server(
        connection->service(), connection->source, nullptr,
        [this, connection, plain = std::move(plain)](Result<Dialed> result,
                                                     const ServiceTarget* target) mutable {
            if (!result) return not_connected(connection, std::move(plain), result.error());
            const auto may = may_greet(connection->spec(), *target, result->peer, connection->source);
            if (!may) return not_connected(connection, std::move(plain), may.error());
            greeted(connection->spec(), *target, result->peer);
            connection->peer = target->peer;
            connection->key = result->peer;
            connection->found(*target);
            connection->log_handshake();
            if constexpr (std::is_same_v<Dialed, tunnel::curvecp::DialedStream>) {
                connection->runs_over(result->tunnel);
            } else {
                io::set_tunnel_options(result->stream.native_handle(), connection->spec().limits.dead_peer);
            }
            auto tunnel = take_tunnel(*result);
            if (connection->spec().plain == PlainSide::records) {
                return connection->forward_records(
                    std::move(plain), pipe_of(std::move(tunnel), connection->spec().limits.dead_peer));
            }
            connection->forward(std::move(plain), std::move(tunnel));
        });
}

void Worker::greeted(const ServiceSpec& spec, const ServiceTarget& target, const crypto::PublicKey& server) {
    ++shared_.counters->handshakes;
    ++spec.counters->handshakes;
    shared_.counters->peer_came(known_name(target.peer), server.text(), io::wall_now());
    last_good_.insert_or_assign(spec.name + "\n" + target.text, server);
}

// The server has proven its key. Error: it cannot be written that we go on with it.
Result<> Worker::may_greet(const ServiceSpec& spec, const ServiceTarget& target,
                           const crypto::PublicKey& server, const std::string& source) {
    if (shared_.audit->let_in({spec.name, target.peer, server, source, {}})) return {};
    return fail(AuditErrc::unavailable);
}

void Worker::not_greeted(const ServiceSpec& spec, const Error& why) {
    shared_.counters->refuse(why);
    ++spec.counters->refused;
    log::limited(log::Level::error, "connect_failed",
                 {{"service", spec.name}, {"peer", spec.peer}, {"reason", why.text()}});
}

void Worker::not_connected(const std::shared_ptr<Connection>& connection, io::Stream plain,
                           const Error& why) {
    not_greeted(connection->spec(), why);
    error_code ignored;
    plain.close(ignored);  // a reset, by set_plain_options()
    remove(connection);
}

// In the order of the file, but the one that answered last comes first. Of the target's own peer: a key is
// never good for another.
std::vector<crypto::PublicKey> Worker::keys_to_try(const ServiceSpec& spec,
                                                   const ServiceTarget& target) const {
    auto keys = registry_->keys_of(target.peer, io::wall_now());
    const auto last = last_good_.find(spec.name + "\n" + target.text);
    if (last == last_good_.end()) return keys;
    const auto good = std::ranges::find(keys, last->second);
    if (good != keys.end()) std::rotate(keys.begin(), good, good + 1);
    return keys;
}

bool Worker::is_pinned(const std::string& peer, const crypto::PublicKey& server) const {
    const auto keys = registry_->keys_of(peer, io::wall_now());
    return std::ranges::find(keys, server) != keys.end();
}

// ---- a service with datagrams ----

forward::Flows::Limits Worker::flow_limits(const ServiceSpec& spec) {
    return {spec.limits.flows, std::min(spec.limits.flow_idle, spec.limits.idle_timeout),
            spec.limits.dead_peer, spec.limits.max_session};
}

void Worker::serve_datagrams(Open& door, os::UniqueFd listening) {
    door.flows = std::make_unique<forward::Flows>(
        context_, std::move(listening), flow_limits(*door.specs->front()), *shared_.counters,
        [this, &door](const std::string& source, const io::CancellationPtr& cancellation,
                      forward::Flows::DialedFn done) {
            open_flow(door.specs->front(), source, cancellation, std::move(done));
        },
        [this, &door] { session_begins(*door.specs->front()); },
        [this, &door](const forward::Flows::Who& who, const forward::ForwarderSummary& summary) {
            const ServiceSpec& spec = *door.specs->front();
            const bool revoked = summary.ending == forward::Ending::revoked;
            const bool closed = summary.ending == forward::Ending::service_gone ||
                                summary.ending == forward::Ending::port_closed;
            if (revoked || closed) {
                shared_.audit->ended({spec.name, who.peer, who.key, who.source,
                                      revoked ? describe(io::DialErrc::no_pin) : describe(summary.ending)});
            }
            session_ended(spec, who, summary);
        },
        shared_.addresses);
    door.flows->start();
}

void Worker::open_flow(const SpecPtr& service, const std::string& source,
                       const io::CancellationPtr& cancellation, forward::Flows::DialedFn done) {
    const ServiceSpec& spec = *service;
    ++shared_.counters->accepted;
    ++spec.counters->accepted;
    if (!sweeping_) sweep();
    const auto finish = [this, service, source, cancellation](auto& result, const ServiceTarget* target,
                                                              forward::Flows::DialedFn& tell) {
        // Its flow had to go: nobody has come, and nothing has failed.
        if (cancellation->is_cancelled()) return;
        // A reload may have taken the pin away while this was dialled.
        if (result && !is_pinned(target->peer, result->peer)) {
            result = fail(io::DialErrc::no_pin, target->peer);
            audit_failure(*service, *target, source, result.error());
        }
        if (result) {
            if (auto may = may_greet(*service, *target, result->peer, source); !may)
                result = fail(std::move(may));
        }
        if (!result) {
            not_greeted(*service, result.error());
            return tell(fail(std::move(result)));
        }
        greeted(*service, *target, result->peer);
        const std::string moved = service->targets.size() > 1 ? target->text : "";
        const forward::Flows::Who who{source, target->peer, result->peer, moved,
                                      ++shared_.counters->connections};
        log_of(*service, who,
               [](const auto&... where) { log::event(log::Level::info, "handshake_ok", {where...}); });
        auto below = below_of(*result);
        tell(forward::Flows::Tunnel{pipe_of(take_tunnel(*result), service->limits.dead_peer), who.peer,
                                    who.key, moved, who.session, std::move(below)});
    };
    if (spec.wire == Wire::curvecp) {
        return dial_server(
            service, source, cancellation,
            [this, finish, done = std::move(done)](Result<tunnel::curvecp::DialedStream> result,
                                                   const ServiceTarget* target) mutable {
                if (result) watch(result->tunnel);
                finish(result, target, done);
            });
    }
    dial_server(service, source, cancellation,
                [finish, done = std::move(done)](Result<tunnel::curve_tun::Established> result,
                                                 const ServiceTarget* target) mutable {
                    finish(result, target, done);
                });
}

}  // namespace curvegate::serve
