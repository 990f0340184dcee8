#include "net/worker.hpp"

#include "log/log.hpp"

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
           ending == Ending::numbers_used_up || ending == Ending::dead_peer;
}

}  // namespace

/// One forwarded connection from accept to end: who it is, what it holds, and its forwarder once both sides
/// are there.
class Worker::Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(Worker& worker, const ServiceSpec& spec, std::string source)
        : worker_(worker), spec_(spec), source_(std::move(source)) {}

    std::optional<SessionLimits::Slot> slot;
    std::string peer;

    void forward(Stream plain, Established tunnel) {
        set_tunnel_options(tunnel.stream, spec_.dead_peer);
        ForwarderLimits limits{spec_.end_of_stream, spec_.idle, spec_.dead_peer, {}, worker_.shared_.drain};
        if (spec_.max_session) limits.max_session = now() + *spec_.max_session;
        forwarder_ = std::make_shared<Forwarder>(std::move(plain), std::move(tunnel.stream),
                                                 std::move(tunnel.session), limits, worker_.scratch_);
        ++worker_.shared_.counters->sessions;
        forwarder_->start(
            [self = shared_from_this()](const ForwarderSummary& summary) { self->ended(summary); });
    }

    [[nodiscard]] Duration shortest_limit() const {
        return std::min({spec_.idle, spec_.dead_peer, spec_.max_session.value_or(Duration::max())});
    }

    void log_handshake() const {
        log::event(log::Level::info, "handshake_ok",
                   {{"service", spec_.name}, {"peer", peer}, {"src", source_}});
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
    void ended(const ForwarderSummary& summary) {
        auto& counters = *worker_.shared_.counters;
        --counters.sessions;
        if (is_truncation(summary.ending)) ++counters.truncations;
        counters.bytes_up += summary.bytes_up;
        counters.bytes_down += summary.bytes_down;
        log::event(summary.ending == Ending::orderly ? log::Level::info : log::Level::warning,
                   "session_close",
                   {{"service", spec_.name},
                    {"peer", peer},
                    {"src", source_},
                    {"reason", std::string(describe(summary.ending))},
                    {"bytes_in", std::to_string(summary.bytes_down)},
                    {"bytes_out", std::to_string(summary.bytes_up)},
                    {"duration_s", seconds_of(summary.lasted)}});
        forwarder_.reset();
        worker_.remove(shared_from_this());
    }

    Worker& worker_;
    const ServiceSpec& spec_;
    std::string source_;
    std::shared_ptr<Forwarder> forwarder_;
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
}

HandshakeTools Worker::tools() {
    return {&vault_, &keeper_, pool_.get(), &random_, shared_.timeouts};
}

void Worker::serve(const ServiceSpec& spec, os::UniqueFd listening) {
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

// The server end: handshake, then the plain side.
void Worker::serve_tunnel(const ServiceSpec& spec, Stream stream, std::string source,
                          const IpAddress& address) {
    auto connection = std::make_shared<Connection>(*this, spec, source);
    const auto refused = [this, &spec, source, connection](const Error& why) {
        shared_.counters->refuse(why);
        log::limited(
            log::Level::warning, "handshake_reject",
            {{"service", spec.name}, {"peer", connection->peer}, {"src", source}, {"reason", why.text()}});
    };
    auto handle = std::make_shared<std::weak_ptr<HandshakeHandle>>();
    auto ticket = shared_.admission->admit(address, now(), vault_.busy(), [this, handle] {
        asio::post(context_, [handle] {
            if (const auto running = handle->lock()) running->stop();
        });
    });
    if (!ticket) {
        refused(ticket.error());
        return;  // the stream closes itself
    }
    set_tunnel_options(stream, spec.dead_peer);
    auto authorise = [this, &spec, address,
                      connection](const crypto::PublicKey& key) -> std::optional<std::string> {
        const auto decision = shared_.registry->authorise(key, spec.allow, address, wall_now());
        connection->peer = decision.name;
        if (decision.verdict != registry::Verdict::allowed) {
            return std::string(describe(decision.verdict)) + ": " +
                   (decision.name.empty() ? key.text() : decision.name);
        }
        if (decision.name.empty()) connection->peer = key.text();
        auto slot = shared_.sessions->take(key, spec.sessions_per_peer);
        if (!slot) return "too many sessions of this peer (sessions-per-peer)";
        connection->slot.emplace(std::move(*slot));
        return std::nullopt;
    };
    auto done = [this, &spec, connection, refused,
                 ticket = std::move(*ticket)](Result<Established> result) mutable {
        if (!result) return refused(result.error());
        ticket.succeed(now());
        ++shared_.counters->handshakes;
        connection->log_handshake();
        add(connection);
        dial(context_, *shared_.resolver, spec.connect, now() + spec.connect_timeout,
             [this, &spec, connection, tunnel = std::move(*result)](Result<Stream> plain) mutable {
                 if (plain) return connection->forward(std::move(*plain), std::move(tunnel));
                 log::limited(
                     log::Level::error, "connect_failed",
                     {{"service", spec.name}, {"peer", connection->peer}, {"reason", plain.error().text()}});
                 remove(connection);
             });
    };
    *handle =
        start_server_handshake(std::move(stream), tools(), address, std::move(authorise), std::move(done));
}

// The client end: a tunnel for a local connection.
void Worker::serve_plain(const ServiceSpec& spec, Stream stream, std::string source) {
    set_plain_options(stream);
    auto connection = std::make_shared<Connection>(*this, spec, std::move(source));
    connection->peer = spec.peer;
    add(connection);
    TunnelTarget target{spec.connect, spec.peer, keys_to_try(spec)};
    dial_tunnel(context_, *shared_.resolver, tools(), std::move(target), now() + spec.connect_timeout,
                [this, &spec, connection, plain = std::move(stream)](Result<Established> result) mutable {
                    if (result) {
                        ++shared_.counters->handshakes;
                        last_good_.insert_or_assign(spec.name, result->peer);
                        connection->log_handshake();
                        return connection->forward(std::move(plain), std::move(*result));
                    }
                    shared_.counters->refuse(result.error());
                    log::limited(
                        log::Level::error, "connect_failed",
                        {{"service", spec.name}, {"peer", spec.peer}, {"reason", result.error().text()}});
                    error_code ignored;
                    plain.close(ignored);  // a reset, by set_plain_options()
                    remove(connection);
                });
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
        if (connections_.empty()) return when_empty();
        when_empty_ = std::move(when_empty);
    });
}

void Worker::cut() {
    asio::post(context_, [this] {
        const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
        for (const auto& connection : all) connection->cut();
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
    if (connections_.empty() && when_empty_) std::exchange(when_empty_, nullptr)();
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
    sweeping_ = !connections_.empty();
    if (!sweeping_) return;
    Duration every = kSweep;
    for (const auto& connection : connections_) {
        every = std::min(every, connection->shortest_limit() / 4);
    }
    sweep_timer_.expires_after(std::max(every, kShortestSweep));
    sweep_timer_.async_wait([this](error_code error) {
        if (error) return;
        const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
        for (const auto& connection : all) connection->sweep(now());
        sweep();
    });
}

}  // namespace curvegate::net
