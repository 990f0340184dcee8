#include "serve/client_end.hpp"

#include "io/clock.hpp"
#include "io/socket_options.hpp"
#include "log/log.hpp"

#include <algorithm>

namespace curvegate::serve {

void ClientEnd::accept(SpecPtr spec, io::Stream stream, std::string source) {
    sessions_.came(*spec);
    // Not left to the listening socket: what came before it had them would be without, and a cut of its
    // tunnel would look like an end.
    io::set_plain_options(stream.native_handle(), spec->limits.dead_peer);
    auto connection = std::make_shared<Connection>(sessions_, std::move(spec), std::move(source));
    connection->peer = connection->spec().targets.front().peer;  // until one has answered
    if (!sessions_.take_slot(*connection, std::nullopt))
        return not_connected(connection, std::move(stream), *connection->turned_away);
    sessions_.add(connection);
    open_tunnel(connection, std::move(stream));
}

// A server that is not the pinned one, or none is pinned: a decision. A network that fails is none.
void ClientEnd::audit_failure(const ServiceSpec& spec, const ServiceTarget& target, const std::string& source,
                              const Error& why) {
    const bool decided =
        why.is(io::DialErrc::no_pin) || why.is(io::DialErrc::wrong_key) || why.is(io::DialErrc::no_cookie);
    if (decided) sessions_.shared().audit->refused({spec.name, target.peer, {}, source, why.what()});
}

tunnel::Opener& ClientEnd::opener_of(const tunnel::Wire& wire) {
    auto& opener = openers_[&wire];
    if (!opener) opener = wire.make_opener(sessions_.lent());
    return *opener;
}

void ClientEnd::dial_server(const SpecPtr& spec, const std::string& source,
                            const io::CancellationPtr& cancellation, Tries::DoneFn done) {
    const Instant deadline = io::now() + spec->limits.connect_timeout;
    const auto dial = [this, spec, source, deadline, cancellation](const ServiceTarget& target, Instant until,
                                                                   Tries::TriedFn tried) {
        tunnel::Opening wanted{
            target.address, target.peer, keys_to_try(*spec, target), spec->options, spec->limits.dead_peer,
            until,          {}};
        // Once it has answered, whatever the others might have needed is its own.
        if (until != deadline) wanted.confirm_by = deadline;
        auto opened = [this, spec, &target, source,
                       tried = std::move(tried)](Result<std::unique_ptr<tunnel::Tunnel>> result) mutable {
            if (!result) audit_failure(*spec, target, source, result.error());
            tried(std::move(result));
        };
        opener_of(*spec->wire).open(std::move(wanted), std::move(opened), cancellation);
    };
    try_targets<std::unique_ptr<tunnel::Tunnel>>(spec, deadline, dial, std::move(done));
}

void ClientEnd::open_tunnel(const std::shared_ptr<Connection>& connection, io::Stream plain) {
    dial_server(connection->service(), connection->source, nullptr,
                [this, connection, plain = std::move(plain)](Result<std::unique_ptr<tunnel::Tunnel>> result,
                                                             const ServiceTarget* target) mutable {
                    if (!result) return not_connected(connection, std::move(plain), result.error());
                    tunnel::Tunnel& tunnel = **result;
                    const auto may =
                        may_greet(connection->spec(), *target, tunnel.peer(), connection->source);
                    if (!may) return not_connected(connection, std::move(plain), may.error());
                    greeted(connection->spec(), *target, tunnel.peer());
                    connection->peer = target->peer;
                    connection->key = tunnel.peer();
                    connection->found(*target);
                    connection->log_handshake();
                    connection->runs_over(tunnel);
                    if (connection->spec().plain == PlainSide::records)
                        return connection->forward_records(std::move(plain), tunnel.messages());
                    connection->forward(std::move(plain), tunnel.bytes());
                });
}

void ClientEnd::greeted(const ServiceSpec& spec, const ServiceTarget& target,
                        const crypto::PublicKey& server) {
    ++sessions_.shared().counters->handshakes;
    ++spec.counters->handshakes;
    sessions_.shared().counters->peer_came(sessions_.known_name(target.peer), server.text(), io::wall_now());
    last_good_.insert_or_assign(spec.name + "\n" + target.text, server);
}

// The server has proven its key. Error: it cannot be written that we go on with it.
Result<> ClientEnd::may_greet(const ServiceSpec& spec, const ServiceTarget& target,
                              const crypto::PublicKey& server, const std::string& source) {
    if (sessions_.shared().audit->let_in({spec.name, target.peer, server, source, {}})) return {};
    return fail(AuditErrc::unavailable);
}

void ClientEnd::not_greeted(const ServiceSpec& spec, const Error& why) {
    sessions_.shared().counters->refuse(why);
    ++spec.counters->refused;
    log::limited(log::Level::error, "connect_failed",
                 {{"service", spec.name}, {"peer", spec.peer}, {"reason", why.text()}});
}

void ClientEnd::not_connected(const std::shared_ptr<Connection>& connection, io::Stream plain,
                              const Error& why) {
    not_greeted(connection->spec(), why);
    error_code ignored;
    plain.close(ignored);  // a reset, by set_plain_options()
    sessions_.remove(connection);
}

// In the order of the file, but the one that answered last comes first. Of the target's own peer: a key is
// never good for another.
std::vector<crypto::PublicKey> ClientEnd::keys_to_try(const ServiceSpec& spec,
                                                      const ServiceTarget& target) const {
    auto keys = sessions_.registry().keys_of(target.peer, io::wall_now());
    const auto last = last_good_.find(spec.name + "\n" + target.text);
    if (last == last_good_.end()) return keys;
    const auto good = std::ranges::find(keys, last->second);
    if (good != keys.end()) std::rotate(keys.begin(), good, good + 1);
    return keys;
}

void ClientEnd::open_flow(const SpecPtr& service, const std::string& source,
                          const io::CancellationPtr& cancellation, forward::Flows::DialedFn done) {
    sessions_.came(*service);
    sessions_.on_arrival();
    auto opened = [this, service, source, cancellation, done = std::move(done)](
                      Result<std::unique_ptr<tunnel::Tunnel>> result, const ServiceTarget* target) mutable {
        std::weak_ptr<tunnel::Remains> remains;
        if (result) remains = sessions_.watch(**result, nullptr);
        // Its flow had to go: nobody has come, and nothing has failed.
        if (cancellation->is_cancelled()) return;
        // A reload may have taken the pin away while this was dialled.
        if (result && !sessions_.is_pinned(target->peer, (*result)->peer())) {
            result = fail(io::DialErrc::no_pin, target->peer);
            audit_failure(*service, *target, source, result.error());
        }
        if (result) {
            if (auto may = may_greet(*service, *target, (*result)->peer(), source); !may)
                result = fail(std::move(may));
        }
        if (!result) {
            not_greeted(*service, result.error());
            return done(fail(std::move(result)));
        }
        greeted(*service, *target, (*result)->peer());
        const std::string moved = service->targets.size() > 1 ? target->text : "";
        const forward::Flows::Who who{source, target->peer, (*result)->peer(), moved,
                                      ++sessions_.shared().counters->connections};
        log_of(*service, who,
               [](const auto&... where) { log::event(log::Level::info, "handshake_ok", {where...}); });
        done(forward::Flows::Tunnel{(*result)->datagrams(), who.peer, who.key, moved, who.session,
                                    std::move(remains)});
    };
    dial_server(service, source, cancellation, std::move(opened));
}

void ClientEnd::flow_ended(const ServiceSpec& spec, const forward::Flows::Who& who,
                           const forward::ForwarderSummary& summary) {
    const bool revoked = summary.ending == forward::Ending::revoked;
    const bool closed =
        summary.ending == forward::Ending::service_gone || summary.ending == forward::Ending::port_closed;
    if (revoked || closed) {
        sessions_.shared().audit->ended(
            {spec.name, who.peer, who.key, who.source,
             revoked ? describe(io::DialErrc::no_pin) : describe(summary.ending)});
    }
    sessions_.session_ended(spec, who, summary);
}

}  // namespace curvegate::serve
