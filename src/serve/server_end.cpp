#include "serve/server_end.hpp"

#include "io/clock.hpp"
#include "io/dial_udp.hpp"
#include "io/socket_options.hpp"
#include "log/log.hpp"
#include "serve/try_targets.hpp"
#include "tunnel/accept.hpp"

#include <algorithm>

namespace curvegate::serve {

/// A client that shakes hands, whatever the wire: which of the services of its door it asks for, and its
/// connection.
class ServerEnd::Newcomer final : public tunnel::Guest {
  public:
    /// By where it came in.
    struct Way {
        std::string source;  ///< as it may be shown
        IpAddress address;
        std::optional<wire::proxy::Addresses> addresses;  ///< nullopt: the tunnel knows them
        DoorId door = kNoDoor;                            ///< over udp
    };
    Newcomer(ServerEnd& end, std::shared_ptr<const Specs> services, Way way)
        : end_(end), services_(std::move(services)), way_(std::move(way)) {}

    std::optional<std::string> authorise(const crypto::PublicKey& client, std::string_view asked) override {
        const auto answers = [&](const SpecPtr& spec) {
            return !spec->options.server_name || *spec->options.server_name == asked;
        };
        const auto service = std::ranges::find_if(*services_, answers);
        if (service == services_->end()) {
            client_ = client;
            return "no service is called " + (asked.empty() ? "so" : std::string(asked));
        }
        connection_ = std::make_shared<Connection>(end_.sessions_, *service, way_.source);
        connection_->door = way_.door;
        return end_.authorise(*connection_, client, way_.address);
    }

    bool may_come_from(const IpAddress& source) override {
        if (end_.sessions_.unwelcome(*connection_, source)) return false;
        connection_->address = source;
        return true;
    }

    [[nodiscard]] Duration dead_peer() const override { return spec().limits.dead_peer; }
    [[nodiscard]] const service::WireOptions& options() const override { return spec().options; }

    void established(std::unique_ptr<tunnel::Tunnel> tunnel) override {
        connection_->server_key = tunnel->server_key();
        connection_->runs_over(*tunnel);
        end_.let_in(connection_);
        if (spec().proxy == service::Proxy::v2)
            connection_->addresses = way_.addresses ? way_.addresses : tunnel->addresses();
        end_.reach_application(connection_, std::move(tunnel));
    }

    void refused(const Error& why) override {
        if (connection_) return end_.refuse(*connection_, why);
        Connection stranger(end_.sessions_, services_->front(), way_.source);
        stranger.refused_key = client_;
        if (client_) stranger.refused_for = "no service has the name that was asked for";
        end_.refuse(stranger, why);
    }

  private:
    [[nodiscard]] const ServiceSpec& spec() const {
        return connection_ ? connection_->spec() : *services_->front();
    }

    ServerEnd& end_;
    std::shared_ptr<const Specs> services_;
    Way way_;
    std::shared_ptr<Connection> connection_;
    std::optional<crypto::PublicKey> client_;  // who asked for a service that there is not
};

void ServerEnd::refuse(const Connection& connection, const Error& why) {
    // The handshake knows one refusal for all; here it is known whether it was for want of a place.
    const Error& shown = connection.turned_away ? *connection.turned_away : why;
    sessions_.shared().counters->refuse(shown);
    ++connection.spec().counters->refused;
    log::limited(log::Level::warning, "handshake_reject", [&] {
        return log::Fields{{"service", connection.spec().name},
                           {"peer", connection.peer},
                           {"src", connection.source},
                           {"reason", shown.text()}};
    });
    if (shown.is(AuditErrc::unavailable)) return;
    const std::string_view words = connection.refused_for;
    sessions_.shared().audit->refused(connection.record(words.empty() ? why.what() : words));
}

// Returns nullopt if the key may use the service as it is now, whatever it was when the connection came; then
// its session is counted.
std::optional<std::string> ServerEnd::authorise(Connection& connection, const crypto::PublicKey& key,
                                                const IpAddress& address) {
    const auto refuse_for = [&](std::string_view words) {
        connection.refused_key = key;
        connection.refused_for = words;
        return std::string(words);
    };
    SpecPtr service = sessions_.service_now(connection.spec().id);
    if (!service) return refuse_for(describe(forward::Ending::service_gone));
    connection.follow(std::move(service));
    const auto decision =
        sessions_.registry().authorise(key, connection.spec().allow, address, io::wall_now());
    connection.peer = decision.name;
    if (decision.verdict != registry::Verdict::allowed) {
        return refuse_for(describe(decision.verdict)) + ": " +
               (decision.name.empty() ? key.text() : decision.name);
    }
    if (decision.name.empty()) connection.peer = key.text();
    if (!sessions_.take_slot(connection, guard::SessionLimits::Client{key, address}))
        return refuse_for(connection.turned_away->what());
    // Written before it holds: a session that nobody can show later is none.
    if (!sessions_.shared().audit->let_in(
            {connection.spec().name, decision.name, key, connection.source, {}})) {
        connection.slot.reset();
        connection.turned_away = Error(AuditErrc::unavailable);
        return refuse_for(connection.turned_away->what());
    }
    connection.key = key;
    connection.address = address;
    return std::nullopt;
}

// Which of our keys a client knows is what a key rotation waits for. The vault is asked once for each key.
void ServerEnd::name_server_key(Connection& connection) {
    const vault::KeySlot slot = *connection.server_key;
    const auto [known, is_new] = server_keys_.try_emplace(slot, nullptr);
    connection.server_public = known->second;
    if (!is_new) return;
    sessions_.lent().tools.vault->ask(
        vault::GetPublicKey{slot},
        [this, slot](const Result<vault::ReplyBody>& reply) { server_key_is(slot, reply); });
}

void ServerEnd::server_key_is(vault::KeySlot slot, const Result<vault::ReplyBody>& reply) {
    const auto* answer = reply ? std::get_if<vault::PublicKeyIs>(&*reply) : nullptr;
    const auto key = crypto::PublicKey::parse(answer != nullptr ? answer->key : ByteArray<32>{});
    if (!key) {                    // zeros are no key
        server_keys_.erase(slot);  // the next session asks again
        return;
    }
    const auto* const own = &*own_keys_.insert(*key).first;
    server_keys_[slot] = own;
    for (const auto& connection : sessions_.all()) {
        if (connection->server_key == slot && connection->server_public == nullptr)
            connection->server_public = own;
    }
}

void ServerEnd::let_in(const std::shared_ptr<Connection>& connection) {
    ++sessions_.shared().counters->handshakes;
    ++connection->spec().counters->handshakes;
    sessions_.shared().counters->peer_came(sessions_.known_name(connection->peer), connection->key->text(),
                                           io::wall_now());
    connection->log_handshake();
    sessions_.add(connection);
    name_server_key(*connection);
}

bool ServerEnd::is_front(guard::ServiceId id, const IpAddress& address) const {
    const SpecPtr service = sessions_.service_now(id);
    const auto holds = [&](const IpBlock& block) { return block.contains(address); };
    return service && std::ranges::any_of(service->proxy_from, holds);
}

std::shared_ptr<tunnel::Guest> ServerEnd::guest(std::shared_ptr<const Specs> services, const Path& from,
                                                DoorId door) {
    ++sessions_.shared().counters->accepted;  // which of the services it wants is not known yet
    const wire::proxy::Addresses addresses{{from.peer.address.ip, from.peer.port},
                                           {from.own, services->front()->accept_port}};
    return std::make_shared<Newcomer>(*this, std::move(services),
                                      Newcomer::Way{io::source_text(from.peer, sessions_.shared().addresses),
                                                    from.peer.address.ip, addresses, door});
}

void ServerEnd::accept(SpecPtr spec, io::Stream stream, std::string source, const IpAddress& address) {
    sessions_.came(*spec);
    if (is_front(spec->id, address))
        return accept_proxied(std::move(spec), std::move(stream), std::move(source), address);
    shake_hands(spec, std::move(stream), std::move(source), address);
}

// From a front nothing is served without its header: whoever could make it leave that out would come as the
// front.
void ServerEnd::accept_proxied(SpecPtr spec, io::Stream stream, std::string front, const IpAddress& address) {
    auto done = [this, spec = std::move(spec), front = std::move(front),
                 address](Result<io::ProxiedStream> read) mutable {
        if (!read && read.error().is(io::ProxyErrc::only_asked)) return;
        if (read && !is_front(spec->id, address)) read = fail(io::ProxyErrc::no_front);
        if (!read) return refuse(Connection(sessions_, std::move(spec), std::move(front)), read.error());
        if (!read->addresses) return shake_hands(spec, std::move(read->stream), std::move(front), address);
        const auto& [client, port] = read->addresses->source;
        shake_hands(spec, std::move(read->stream),
                    io::source_text({client, port}, sessions_.shared().addresses), client, read->addresses);
    };
    proxy_headers_.read(std::move(stream), io::now() + sessions_.shared().timeouts.hello, std::move(done));
}

void ServerEnd::shake_hands(const SpecPtr& spec, io::Stream stream, std::string source,
                            const IpAddress& address,
                            const std::optional<wire::proxy::Addresses>& addresses) {
    // Of this service, whatever a reload puts behind its door meanwhile.
    auto services = std::make_shared<const Specs>(1, spec);
    const auto guest = std::make_shared<Newcomer>(*this, std::move(services),
                                                  Newcomer::Way{std::move(source), address, addresses});
    tunnel::accept(*spec->wire, sessions_.lent(), std::move(stream), address, guest);
}

void ServerEnd::reach_application(const std::shared_ptr<Connection>& connection,
                                  std::unique_ptr<tunnel::Tunnel> tunnel) {
    const SpecPtr spec = connection->service();
    const Instant deadline = io::now() + spec->limits.connect_timeout;
    const auto give_up = [this, connection](const Error& why) {
        log::limited(log::Level::error, "connect_failed",
                     {{"service", connection->spec().name},
                      {"peer", connection->peer},
                      {"session", connection->who().session},
                      {"reason", why.text()}});
        sessions_.remove(connection);
    };
    if (spec->plain == PlainSide::datagrams) {
        const auto dial_one = [this](const ServiceTarget& target, Instant until, auto tried) {
            io::dial_udp(*sessions_.lent().context, *sessions_.shared().resolver, target.address, until,
                         std::move(tried));
        };
        return try_targets<os::UniqueFd>(spec, deadline, dial_one,
                                         [connection, give_up, tunnel = std::move(tunnel)](
                                             Result<os::UniqueFd> plain, const ServiceTarget* target) {
                                             if (!plain) return give_up(plain.error());
                                             connection->found(*target);
                                             connection->forward_datagrams(std::move(*plain),
                                                                           tunnel->datagrams());
                                         });
    }
    const auto dial_one = [this](const ServiceTarget& target, Instant until, auto tried) {
        io::dial(*sessions_.lent().context, *sessions_.shared().resolver, target.address, until,
                 std::move(tried));
    };
    try_targets<io::Stream>(spec, deadline, dial_one,
                            [connection, give_up, tunnel = std::move(tunnel)](Result<io::Stream> plain,
                                                                              const ServiceTarget* target) {
                                if (!plain) return give_up(plain.error());
                                connection->found(*target);
                                const ServiceSpec& service = connection->spec();
                                if (service.plain == PlainSide::records)
                                    return connection->forward_records(std::move(*plain), tunnel->messages());
                                io::set_plain_options(plain->native_handle(), service.limits.dead_peer);
                                if (service.proxy == service::Proxy::v2) {
                                    const auto written =
                                        io::write_proxy_header(*plain, connection->introduction());
                                    if (!written) return give_up(written.error());
                                }
                                connection->forward(std::move(*plain), tunnel->bytes());
                            });
}

}  // namespace curvegate::serve
