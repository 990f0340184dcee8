#include "net/worker.hpp"

#include "log/log.hpp"
#include "net/datagram_forwarder.hpp"
#include "net/dial_stream.hpp"
#include "net/dial_udp.hpp"
#include "net/stream_forwarder.hpp"
#include "net/stream_messages.hpp"
#include "net/tcp_messages.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>

namespace curvegate::net {
namespace {

// Bounds the locked memory of one worker; a session holds one slot of 32 bytes, a handshake a few.
constexpr std::size_t kMaxSecrets = 262'144;
constexpr Duration kSweep = std::chrono::seconds(5);
constexpr Duration kShortestSweep = std::chrono::milliseconds(100);

Instant now() {
    return std::chrono::steady_clock::now();
}
WallTime wall_now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string seconds_of(Duration duration) {
    const auto tenths = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count() / 100;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10);
}

bool is_truncation(Ending ending) {
    return ending == Ending::tunnel_cut || ending == Ending::bad_message || ending == Ending::after_end ||
           ending == Ending::numbers_used_up || ending == Ending::dead_peer || ending == Ending::no_answer;
}

std::unique_ptr<MessagePipe> messages_of(Established tunnel, Duration dead_peer) {
    return std::make_unique<TcpMessages>(std::move(tunnel.stream), std::move(tunnel.session), dead_peer);
}
std::unique_ptr<MessagePipe> messages_of(TunnelHandle tunnel, Duration) {
    return std::make_unique<StreamMessages>(std::move(tunnel));
}

}  // namespace

/// One forwarded connection from accept to end: who it is, what it holds, and its forwarder once both sides
/// are there.
class Worker::Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(Worker& worker, const ServiceSpec& service, std::string source_text)
        : spec(service), source(std::move(source_text)), worker_(worker) {}

    const ServiceSpec& spec;
    const std::string source;
    std::optional<SessionLimits::Slot> slot;
    std::string peer;

    void forward(Stream plain, Established tunnel) {
        run(std::make_shared<Forwarder>(std::move(plain), std::move(tunnel.stream), std::move(tunnel.session),
                                        limits(), worker_.scratch_));
    }
    void forward(Stream plain, TunnelHandle tunnel) {
        run(std::make_shared<StreamForwarder>(std::move(plain), std::move(tunnel), limits()));
    }
    void forward_datagrams(os::UniqueFd plain, std::unique_ptr<MessagePipe> pipe) {
        run(std::make_shared<DatagramForwarder>(worker_.context_, std::move(plain), std::move(pipe), limits(),
                                                *worker_.shared_.counters));
    }

    [[nodiscard]] Duration shortest_limit() const {
        return std::min({spec.idle, spec.dead_peer, spec.max_session.value_or(Duration::max())});
    }

    void log_handshake() const {
        log::event(log::Level::info, "handshake_ok",
                   {{"service", spec.name}, {"peer", peer}, {"src", source}});
    }

    void cut() {
        const auto forwarder = forwarder_;
        if (forwarder) return forwarder->stop();
        worker_.remove(shared_from_this());  // it was still dialling
    }

    void sweep(Instant at) {
        const auto forwarder = forwarder_;  // it may end, and with it this
        if (forwarder) forwarder->sweep(at);
    }

  private:
    [[nodiscard]] ForwarderLimits limits() const {
        ForwarderLimits out{spec.end_of_stream, spec.idle, spec.dead_peer, {}, worker_.shared_.drain};
        if (spec.max_session) out.max_session = now() + *spec.max_session;
        return out;
    }

    void run(std::shared_ptr<ForwarderBase> forwarder) {
        forwarder_ = std::move(forwarder);
        ++worker_.shared_.counters->sessions;
        forwarder_->start(
            [self = shared_from_this()](const ForwarderSummary& summary) { self->ended(summary); });
    }

    void ended(const ForwarderSummary& summary) {
        worker_.session_ended(spec, peer, source, summary);
        forwarder_.reset();
        worker_.remove(shared_from_this());
    }

    Worker& worker_;
    std::shared_ptr<ForwarderBase> forwarder_;
};

/// A client that came over UDP: which service it asked for, and its connection.
class Worker::UdpGuest final : public Guest {
  public:
    UdpGuest(Worker& worker, const std::vector<const ServiceSpec*>& services, Path from)
        : worker_(worker), services_(services), from_(std::move(from)) {}

    std::optional<std::string> authorise(const crypto::PublicKey& client,
                                         const wire::curvecp::ServerName& name) override {
        const auto answers = [&](const ServiceSpec* spec) {
            return !spec->server_name || *spec->server_name == name;
        };
        const auto service = std::ranges::find_if(services_, answers);
        if (service == services_.end()) {
            return "no service is called " + wire::curvecp::decode_server_name(name).value_or("so");
        }
        connection_ = std::make_shared<Connection>(worker_, **service, text_of(from_.peer));
        key_ = client;
        return worker_.authorise(*connection_, client, address_of(from_.peer));
    }

    bool may_come_from(const IpAddress& source) override {
        const auto decision =
            worker_.shared_.registry->authorise(*key_, connection_->spec.allow, source, wall_now());
        return decision.verdict == registry::Verdict::allowed;
    }

    [[nodiscard]] Duration dead_peer() const override { return connection_->spec.dead_peer; }

    void established(TunnelHandle tunnel) override {
        worker_.watch(*tunnel, connection_);
        ++worker_.shared_.counters->handshakes;
        connection_->log_handshake();
        worker_.add(connection_);
        worker_.reach_application(connection_, std::move(tunnel));
    }

    void refused(const Error& why) override {
        if (connection_) return worker_.refuse(*connection_, why);
        worker_.refuse(Connection(worker_, *services_.front(), text_of(from_.peer)), why);
    }

  private:
    Worker& worker_;
    const std::vector<const ServiceSpec*>& services_;
    Path from_;
    std::shared_ptr<Connection> connection_;
    std::optional<crypto::PublicKey> key_;
};

Result<std::unique_ptr<Worker>> Worker::create(const Shared& shared) {
    auto pool = crypto::SecretPool::create(shared.locking, kMaxSecrets);
    if (!pool) return fail(std::move(pool));
    os::SystemRandom random;
    auto keeper = cookie::Keeper::create(**pool, random, now());
    if (!keeper) return fail(std::move(keeper));
    return std::unique_ptr<Worker>(new Worker(shared, std::move(*pool), std::move(*keeper)));
}

Worker::Worker(const Shared& shared, std::unique_ptr<crypto::SecretPool> pool, cookie::Keeper keeper)
    : shared_(shared),
      pool_(std::move(pool)),
      keeper_(std::move(keeper)),
      vault_(context_, shared.timeouts.vault, VaultClient::Detached::wait),
      cookie_timer_(context_),
      sweep_timer_(context_) {
    vault_.on_lost = [this](std::string_view why) {
        log::limited(log::Level::error, "vault_lost", {{"reason", std::string(why)}});
        if (on_vault_lost) on_vault_lost();
    };
    cycle_cookie_keys();
}

Worker::~Worker() {
    vault_.on_lost = nullptr;
    vault_.detach();  // while what its callers reach still stands
}

HandshakeTools Worker::tools() {
    return {&vault_, &keeper_, pool_.get(), &random_, &chunks_, shared_.timeouts};
}

void Worker::serve(const ServiceSpec& spec, os::UniqueFd listening) {
    if (spec.side == Side::client && spec.plain == PlainSide::datagrams)
        return serve_datagrams(spec, std::move(listening));
    if (spec.side == Side::server) {
        set_tunnel_options(listening.get(), spec.dead_peer);
    } else {
        set_plain_options(listening.get());
    }
    listeners_.push_back(std::make_unique<Listener>(
        context_, std::move(listening), spec.name,
        [this, &spec](Stream stream, std::string source, const IpAddress& address) {
            ++shared_.counters->accepted;
            if (spec.side == Side::server) {
                serve_tunnel(spec, std::move(stream), std::move(source), address);
            } else {
                serve_plain(spec, std::move(stream), std::move(source));
            }
        }));
    listeners_.back()->start();
}

void Worker::serve_endpoint(std::vector<const ServiceSpec*> specs, os::UniqueFd sessions,
                            os::UniqueFd hellos) {
    const auto takes_any = [](const ServiceSpec* spec) { return !spec->server_name; };
    if (const auto any = std::ranges::find_if(specs, takes_any); any != specs.end())
        std::rotate(any, any + 1, specs.end());
    const CurvecpEndpoint::Options options{specs.front()->extensions.server};
    endpoints_.push_back(std::make_unique<CurvecpEndpoint>(
        context_, std::move(sessions), std::move(hellos), options, tools(), shared_.admission,
        shared_.counters,
        [this, services = std::make_shared<const std::vector<const ServiceSpec*>>(std::move(specs))](
            const Path& from) {
            ++shared_.counters->accepted;
            return std::make_shared<UdpGuest>(*this, *services, from);
        }));
    endpoints_.back()->start();
}

// ---- the server end ----

void Worker::refuse(const Connection& connection, const Error& why) {
    shared_.counters->refuse(why);
    log::limited(log::Level::warning, "handshake_reject",
                 {{"service", connection.spec.name},
                  {"peer", connection.peer},
                  {"src", connection.source},
                  {"reason", why.text()}});
}

// Nothing: the key may use the service, and its session is counted.
std::optional<std::string> Worker::authorise(Connection& connection, const crypto::PublicKey& key,
                                             const IpAddress& address) {
    const auto decision = shared_.registry->authorise(key, connection.spec.allow, address, wall_now());
    connection.peer = decision.name;
    if (decision.verdict != registry::Verdict::allowed) {
        return std::string(describe(decision.verdict)) + ": " +
               (decision.name.empty() ? key.text() : decision.name);
    }
    if (decision.name.empty()) connection.peer = key.text();
    auto slot = shared_.sessions->take(key, connection.spec.sessions_per_peer);
    if (!slot) return "too many sessions of this peer (sessions-per-peer)";
    connection.slot.emplace(std::move(*slot));
    return std::nullopt;
}

void Worker::serve_tunnel(const ServiceSpec& spec, Stream stream, std::string source,
                          const IpAddress& address) {
    auto connection = std::make_shared<Connection>(*this, spec, std::move(source));
    auto handle = std::make_shared<std::weak_ptr<HandshakeHandle>>();
    auto ticket = shared_.admission->admit(address, now(), vault_.busy(), [this, handle] {
        asio::post(context_, [handle] {
            if (const auto running = handle->lock()) running->stop();
        });
    });
    if (!ticket) return refuse(*connection, ticket.error());  // the stream closes itself
    auto may_in = [this, address, connection](const crypto::PublicKey& key) {
        return authorise(*connection, key, address);
    };
    auto done = [this, connection, ticket = std::move(*ticket)](Result<Established> result) mutable {
        if (!result) return refuse(*connection, result.error());
        ticket.succeed(now());
        ++shared_.counters->handshakes;
        connection->log_handshake();
        add(connection);
        reach_application(connection, std::move(*result));
    };
    *handle = start_server_handshake(std::move(stream), tools(), address, std::move(may_in), std::move(done));
}

template <class Tunnel>
void Worker::reach_application(const std::shared_ptr<Connection>& connection, Tunnel tunnel) {
    const ServiceSpec& spec = connection->spec;
    const Instant deadline = now() + spec.connect_timeout;
    const auto give_up = [this, connection](const Error& why) {
        log::limited(
            log::Level::error, "connect_failed",
            {{"service", connection->spec.name}, {"peer", connection->peer}, {"reason", why.text()}});
        remove(connection);
    };
    if (spec.plain == PlainSide::datagrams) {
        return dial_udp(context_, *shared_.resolver, spec.connect, deadline,
                        [connection, give_up, pipe = messages_of(std::move(tunnel), spec.dead_peer)](
                            Result<os::UniqueFd> plain) mutable {
                            if (!plain) return give_up(plain.error());
                            connection->forward_datagrams(std::move(*plain), std::move(pipe));
                        });
    }
    dial(context_, *shared_.resolver, spec.connect, deadline,
         [connection, give_up, tunnel = std::move(tunnel)](Result<Stream> plain) mutable {
             if (!plain) return give_up(plain.error());
             set_plain_options(plain->native_handle());
             connection->forward(std::move(*plain), std::move(tunnel));
         });
}

// ---- the client end ----

void Worker::serve_plain(const ServiceSpec& spec, Stream stream, std::string source) {
    auto connection = std::make_shared<Connection>(*this, spec, std::move(source));
    connection->peer = spec.peer;
    add(connection);
    if (spec.carrier == Carrier::curvecp) {
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
                    ++shared_.counters->handshakes;
                    last_good_.insert_or_assign(connection->spec.name, result->peer);
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
                    ++shared_.counters->handshakes;
                    last_good_.insert_or_assign(connection->spec.name, result->peer);
                    connection->log_handshake();
                    watch(*result->tunnel, connection);
                    connection->forward(std::move(plain), std::move(result->tunnel));
                });
}

void Worker::not_connected(const std::shared_ptr<Connection>& connection, Stream plain, const Error& why) {
    shared_.counters->refuse(why);
    log::limited(log::Level::error, "connect_failed",
                 {{"service", connection->spec.name}, {"peer", connection->peer}, {"reason", why.text()}});
    error_code ignored;
    plain.close(ignored);  // a reset, by set_plain_options()
    remove(connection);
}

// ---- the client end of a service with datagrams ----

void Worker::serve_datagrams(const ServiceSpec& spec, os::UniqueFd listening) {
    const Flows::Limits limits{spec.flows, std::min(spec.flow_idle, spec.idle), spec.dead_peer,
                               spec.max_session};
    flows_.push_back(std::make_unique<Flows>(
        context_, std::move(listening), limits, *shared_.counters,
        [this, &spec](const std::string& source, Flows::DialedFn done) {
            open_flow(spec, source, std::move(done));
        },
        [this, &spec](const std::string& source, const ForwarderSummary& summary) {
            session_ended(spec, spec.peer, source, summary);
        }));
    flows_.back()->start();
}

void Worker::open_flow(const ServiceSpec& spec, const std::string& source, Flows::DialedFn done) {
    ++shared_.counters->accepted;
    if (!sweeping_) sweep();
    const auto finish = [this, &spec, source]<class Tunnel>(Result<Tunnel>& result, Flows::DialedFn& tell,
                                                            auto take) {
        if (!result) {
            shared_.counters->refuse(result.error());
            log::limited(log::Level::error, "connect_failed",
                         {{"service", spec.name}, {"peer", spec.peer}, {"reason", result.error().text()}});
            return tell(fail(std::move(result)));
        }
        ++shared_.counters->handshakes;
        last_good_.insert_or_assign(spec.name, result->peer);
        log::event(log::Level::info, "handshake_ok",
                   {{"service", spec.name}, {"peer", spec.peer}, {"src", source}});
        tell(messages_of(take(*result), spec.dead_peer));
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

void Worker::session_ended(const ServiceSpec& spec, const std::string& peer, const std::string& source,
                           const ForwarderSummary& summary) {
    auto& counters = *shared_.counters;
    --counters.sessions;
    if (is_truncation(summary.ending)) ++counters.truncations;
    counters.bytes_up += summary.bytes_up;
    counters.bytes_down += summary.bytes_down;
    // Datagrams have no end but that they cease.
    const bool ceased = spec.plain == PlainSide::datagrams &&
                        (summary.ending == Ending::idle || summary.ending == Ending::evicted);
    const bool as_it_should = summary.ending == Ending::orderly || ceased;
    log::event(as_it_should ? log::Level::info : log::Level::warning, "session_close",
               {{"service", spec.name},
                {"peer", peer},
                {"src", source},
                {"reason", std::string(describe(summary.ending))},
                {"bytes_in", std::to_string(summary.bytes_down)},
                {"bytes_out", std::to_string(summary.bytes_up)},
                {"duration_s", seconds_of(summary.lasted)}});
}

StreamTarget Worker::stream_target(const ServiceSpec& spec) const {
    return {spec.connect, spec.peer, keys_to_try(spec), spec.extensions, *spec.server_name, spec.dead_peer};
}

// In the order of the file, but the one that answered last comes first.
std::vector<crypto::PublicKey> Worker::keys_to_try(const ServiceSpec& spec) const {
    auto keys = shared_.registry->keys_of(spec.peer, wall_now());
    const auto last = last_good_.find(spec.name);
    if (last == last_good_.end()) return keys;
    const auto good = std::ranges::find(keys, last->second);
    if (good != keys.end()) std::rotate(keys.begin(), good, good + 1);
    return keys;
}

void Worker::attach_vault(os::UniqueFd socket) {
    asio::post(context_, [this, socket = std::move(socket)]() mutable { vault_.attach(std::move(socket)); });
}

void Worker::drain(std::function<void()> when_empty) {
    asio::post(context_, [this, when_empty = std::move(when_empty)]() mutable {
        for (auto& listener : listeners_) listener->stop();
        for (auto& endpoint : endpoints_) endpoint->stop_accepting();
        // Datagrams have no end to wait for.
        for (auto& flows : flows_) flows->stop_accepting(), flows->cut();
        const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
        for (const auto& connection : all) {
            if (connection->spec.plain == PlainSide::datagrams) connection->cut();
        }
        when_empty_ = std::move(when_empty);
        tell_if_empty();
    });
}

void Worker::cut() {
    asio::post(context_, [this] {
        const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
        for (const auto& connection : all) connection->cut();
        undelivered_ = 0;
        tell_if_empty();
    });
}

void Worker::stop() {
    context_.stop();
}

void Worker::add(const std::shared_ptr<Connection>& connection) {
    connections_.insert(connection);
    if (!sweeping_) sweep();
}

void Worker::remove(const std::shared_ptr<Connection>& connection) {
    connections_.erase(connection);
    tell_if_empty();
}

// TCP's last bytes are the kernel's to deliver; a stream's are ours.
void Worker::watch(StreamTunnel& tunnel, const std::shared_ptr<Connection>& connection) {
    ++undelivered_;
    tunnel.on_delivered = [this, connection] {
        if (connection) connection->slot.reset();  // it counted as long as it held memory
        if (undelivered_ > 0) --undelivered_;
        tell_if_empty();
    };
}

void Worker::tell_if_empty() {
    const bool empty = connections_.empty() && undelivered_ == 0;
    if (empty && when_empty_) std::exchange(when_empty_, nullptr)();
}

void Worker::cycle_cookie_keys() {
    cookie_timer_.expires_at(keeper_.next_deadline());
    cookie_timer_.async_wait([this](error_code error) {
        if (error) return;
        if (auto advanced = keeper_.advance(now(), random_); !advanced) {
            log::event(log::Level::error, "cookie_key_failed", {{"reason", advanced.error().text()}});
        }
        cycle_cookie_keys();
    });
}

// Only while there are connections: an idle daemon sleeps.
void Worker::sweep() {
    const bool flowing = std::ranges::any_of(flows_, [](const auto& flows) { return flows->size() > 0; });
    sweeping_ = !connections_.empty() || flowing;
    if (!sweeping_) return;
    Duration every = kSweep;
    for (const auto& flows : flows_) every = std::min(every, flows->shortest_limit() / 4);
    for (const auto& connection : connections_) {
        every = std::min(every, connection->shortest_limit() / 4);
    }
    sweep_timer_.expires_after(std::max(every, kShortestSweep));
    sweep_timer_.async_wait([this](error_code error) {
        if (error) return;
        const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
        for (const auto& connection : all) connection->sweep(now());
        for (const auto& flows : flows_) flows->sweep(now());
        sweep();
    });
}

}  // namespace curvegate::net
