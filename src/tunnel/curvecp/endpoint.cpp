#include "tunnel/curvecp/endpoint.hpp"

#include "crypto/permutation.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "tunnel/curvecp/server_tunnel.hpp"
#include "tunnel/curvecp/session_tunnel.hpp"
#include "tunnel/runner.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curvecp {
namespace {

namespace machine = handshake::curvecp;
namespace wire = wire::curvecp;
namespace action = machine::action;
namespace event = machine::event;
using machine::Event;

constexpr Duration kReadAgain = std::chrono::milliseconds(5);
constexpr int kBatches = 4;                // in a row, then others get their turn
constexpr std::size_t kQueuedPackets = 4;  // that may overtake the check of their connection's Initiate

}  // namespace

/// What both kinds of machine of an endpoint ask of it: parts of a Port of tunnel::Runner.
struct CurvecpEndpoint::Packet {
    CurvecpEndpoint* endpoint;
    Path path;

    [[nodiscard]] const tunnel::HandshakeTools& tools() const noexcept { return endpoint->tools_; }
    [[nodiscard]] Instant now() const { return io::now(); }
    [[nodiscard]] cookie::Origin origin() const { return {cookie::Wire::curvecp, path.peer.address.ip}; }
};

/// A place for a Hello that is being answered.
struct CurvecpEndpoint::Hello : Packet {
    explicit Hello(CurvecpEndpoint& of) : Packet{&of, {}} {}

    std::optional<tunnel::Runner<machine::Server, Hello>> runner;  // empty: the place is free

    /// The endpoint owns us.
    struct Hold {
        std::shared_ptr<bool> alive;
        explicit operator bool() const noexcept { return *alive; }
    };
    [[nodiscard]] Hold hold() const { return {endpoint->alive_}; }
    void on(const action::Send& send) {
        ++endpoint->counters_->hellos_answered;
        (void)endpoint->sessions_->send(path, send.packet(), send.size);
    }
    void on(const action::Close& close) { endpoint->drop(close.why, path); }
    /// Nothing else comes of a Hello.
    template <class Other>
    void on(const Other&) {}
    [[nodiscard]] Result<> admit() const { return {}; }
    void settled() {
        if (runner->state() != machine::ServerState::closed) return;
        runner.reset();
        endpoint->serve_hellos();
    }
};

/// An Initiate that is being checked.
struct CurvecpEndpoint::Newcomer : Packet, std::enable_shared_from_this<CurvecpEndpoint::Newcomer> {
    Newcomer(CurvecpEndpoint& of, const Path& from, const wire::ClientShort& ec)
        : Packet{&of, from},
          client_short(ec),
          runner(*this, vault::KeySlot::server, session::curvecp::first_number(*of.tools_.random)) {}

    wire::ClientShort client_short;
    std::shared_ptr<Guest> guest;                    // from when the cookie has opened
    std::optional<guard::Admission::Ticket> ticket;  // the same
    struct Overtaking {
        Path from;
        std::vector<Byte> bytes;
    };
    std::vector<Overtaking> overtaking;  // of the same connection, at most kQueuedPackets
    tunnel::Runner<machine::Server, Newcomer> runner;

    struct Hold {
        std::shared_ptr<bool> alive;  // the endpoint
        std::shared_ptr<Newcomer> self;
        explicit operator bool() const noexcept { return *alive; }
    };
    [[nodiscard]] Hold hold() { return {endpoint->alive_, shared_from_this()}; }
    /// The source has proven itself; what follows costs public-key work, so the budgets come first.
    [[nodiscard]] Result<> admit();
    [[nodiscard]] std::optional<std::string> authorise(const action::Authorise& ask) {
        return guest->authorise(ask.client, wire::decode_server_name(ask.name).value_or(""));
    }
    void on(action::Established& established) { endpoint->establish(shared_from_this(), established); }
    void on(const action::Close& close);
    /// Nothing else comes of an Initiate.
    template <class Other>
    void on(const Other&) {}
    void settled() {}
};

std::size_t CurvecpEndpoint::ShortKeyHash::operator()(const wire::ClientShort& client_short) const noexcept {
    return crypto::siphash(key, client_short.bytes);
}

CurvecpEndpoint::CurvecpEndpoint(const Environment& lent, std::unique_ptr<io::DatagramSocket> sessions,
                                 std::unique_ptr<io::DatagramSocket> hellos, MakeGuest make_guest)
    : context_(*lent.context),
      sessions_(std::move(sessions)),
      hellos_(std::move(hellos)),
      addresses_(lent.addresses),
      tools_(lent.tools),
      admission_(lent.admission),
      counters_(lent.counters),
      make_guest_(std::move(make_guest)),
      queue_(*tools_.random),
      hello_timer_(context_),
      read_timer_(context_) {
    for (std::size_t i = 0; i < vault_client::VaultClient::kMaxHellos; ++i)
        answering_.push_back(std::make_unique<Hello>(*this));
    ShortKeyHash hash{};
    tools_.random->fill(hash.key);
    tunnels_ = decltype(tunnels_)(0, hash);
    newcomers_ = decltype(newcomers_)(0, hash);
}

CurvecpEndpoint::~CurvecpEndpoint() {
    *alive_ = false;
    for (const auto& [key, entry] : tunnels_) {
        if (const auto tunnel = entry.lock()) tunnel->forget_endpoint();
    }
}

void CurvecpEndpoint::start() {
    wait_sessions();
    wait_hellos();
}

void CurvecpEndpoint::close() {
    stop_accepting();
    for (const auto& [key, entry] : ByShortKey<std::weak_ptr<ServerTunnel>>(tunnels_)) {
        if (const auto tunnel = entry.lock()) tunnel->cut(tunnel::End::stopped);
    }
}

void CurvecpEndpoint::stop_accepting() {
    accepting_ = false;
    hellos_->close();
}

void CurvecpEndpoint::drop(const Error& why, const Path& from) {
    counters_->refuse(why);
    log::limited(log::Level::info, "packet_drop", [&] {
        return log::Fields{{"src", io::source_text(from.peer, addresses_)}, {"reason", why.text()}};
    });
}

// ---- sockets ----

void CurvecpEndpoint::wait_sessions() {
    sessions_->wait_readable([this, alive = alive_] {
        if (!*alive) return;
        for (int i = 0; i < kBatches && *alive; ++i) {
            const std::size_t count = sessions_->receive(
                [this](const Path& from, MutableBytes packet) { on_packet(from, packet); });
            for (const auto& tunnel : std::exchange(touched_, {})) {
                tunnel->touched = false;
                tunnel->after_batch();
                if (!*alive) return;
            }
            if (count == 0) break;
        }
        wait_sessions();
    });
}

void CurvecpEndpoint::wait_hellos() {
    hellos_->wait_readable([this, alive = alive_] {
        if (!*alive || !accepting_) return;
        for (int i = 0; i < kBatches; ++i) {
            const std::size_t count =
                hellos_->receive([this](const Path& from, MutableBytes packet) { on_hello(from, packet); });
            if (count == 0) break;
        }
        serve_hellos();
        // Under load by the clock: a wake-up for every few Hellos would cost more than the Hellos.
        if (!queue_.under_load(io::now())) return wait_hellos();
        read_timer_.expires_after(kReadAgain);
        read_timer_.async_wait([this, alive](error_code error) {
            if (!error && *alive) wait_hellos();
        });
    });
}

std::size_t CurvecpEndpoint::send(const Path& to, Bytes train, std::size_t segment) {
    return sessions_->send(to, train, segment);
}

void CurvecpEndpoint::wait_room() {
    if (std::exchange(waits_room_, true)) return;
    sessions_->wait_writable([this, alive = alive_] {
        if (!*alive) return;
        waits_room_ = false;
        for (const auto& tunnel : std::exchange(blocked_, {})) {
            tunnel->on_writable();
            if (!*alive) return;
        }
    });
}

// ---- packets of sessions, and Initiates ----

void CurvecpEndpoint::on_packet(const Path& from, MutableBytes packet) {
    const auto parsed = wire::parse_to_server(packet);
    if (!parsed) return drop(parsed.error(), from);
    const auto handle = [&](const auto& header) {
        const auto found = tunnels_.find(header.client_short);
        const auto tunnel = found == tunnels_.end() ? nullptr : found->second.lock();
        // A reload may have given those who come now another one.
        const auto& server = header.extensions.server;
        if (tunnel ? !tunnel->has(server) : server != extension_)
            return drop(curvegate::wire::Errc::wrong_extension, from);
        if (tunnel) {
            if (!tunnel->touched) touched_.push_back(tunnel);
            tunnel->touched = true;
            if (const auto taken = tunnel->receive(from, header, packet); !taken) drop(taken.error(), from);
            return;
        }
        const auto newcomer = newcomers_.find(header.client_short);
        if (newcomer != newcomers_.end()) {
            auto& waiting = newcomer->second->overtaking;
            if (waiting.size() < kQueuedPackets) waiting.push_back({from, {packet.begin(), packet.end()}});
            return;
        }
        if constexpr (std::is_same_v<std::decay_t<decltype(header)>, wire::InitiateHeader>) {
            if (accepting_) on_initiate(from, header, packet);
        } else {
            drop(handshake::Errc::unexpected_packet, from);
        }
    };
    if (const auto* message = std::get_if<wire::ClientMessageHeader>(&*parsed)) return handle(*message);
    if (const auto* initiate = std::get_if<wire::InitiateHeader>(&*parsed)) return handle(*initiate);
    drop(handshake::Errc::unexpected_packet, from);  // Hellos have a socket of their own
}

void CurvecpEndpoint::on_initiate(const Path& from, const wire::InitiateHeader& header, MutableBytes packet) {
    const auto newcomer = std::make_shared<Newcomer>(*this, from, header.client_short);
    newcomers_.emplace(header.client_short, newcomer);
    newcomer->runner.feed(event::InitiateArrived{header, packet});
}

Result<> CurvecpEndpoint::Newcomer::admit() {
    const guard::Admission::Knock knock{path.peer.address.ip, io::now(), tools().vault->busy()};
    auto place = endpoint->admission_->admit(
        knock, [of = endpoint, alive = endpoint->alive_, weak = weak_from_this()] {
            asio::post(of->context_, [alive, weak] {
                const auto evicted = weak.lock();
                if (*alive && evicted) evicted->runner.feed(event::Stop{});
            });
        });
    if (!place) return std::unexpected(std::move(place.error()));
    ticket.emplace(std::move(*place));
    guest = endpoint->make_guest_(path);
    return {};
}

void CurvecpEndpoint::Newcomer::on(const action::Close& close) {
    endpoint->newcomers_.erase(client_short);
    if (!guest) return endpoint->drop(close.why, path);
    guest->refused(close.why);
}

void CurvecpEndpoint::establish(const std::shared_ptr<Newcomer>& newcomer, action::Established& established) {
    newcomers_.erase(newcomer->client_short);
    newcomer->ticket->succeed(io::now());
    newcomer->ticket.reset();
    const auto tunnel = std::make_shared<ServerTunnel>(*this, std::move(established.session), newcomer->path,
                                                       newcomer->guest);
    tunnels_.insert_or_assign(newcomer->client_short, tunnel);
    newcomer->guest->established(
        std::make_unique<SessionTunnel>(tunnel->hand_over(), established.peer, established.slot));
    tunnel->receive_first(Bytes(established.message).first(established.message_size));
    for (auto& packet : newcomer->overtaking) on_packet(packet.from, packet.bytes);
    if (!std::exchange(tunnel->touched, true)) touched_.push_back(tunnel);
    asio::post(context_, [this, alive = alive_] {
        if (!*alive) return;
        for (const auto& each : std::exchange(touched_, {})) {
            each->touched = false;
            each->after_batch();
        }
    });
}

// ---- Hellos ----

void CurvecpEndpoint::on_hello(const Path& from, MutableBytes packet) {
    const auto parsed = wire::parse_to_server(packet);
    if (!parsed) return drop(parsed.error(), from);
    const auto* hello = std::get_if<wire::SealedHello>(&*parsed);
    if (hello == nullptr) return drop(handshake::Errc::unexpected_packet, from);
    if (hello->extensions.server != extension_) return drop(curvegate::wire::Errc::wrong_extension, from);
    queue_.push(from, *hello, io::now());
    count_dropped_hellos();
}

void CurvecpEndpoint::count_dropped_hellos() {
    const auto& drops = queue_.drops();
    const std::uint64_t all = drops.crowded_out + drops.too_late;
    counters_->hellos_dropped += all - std::exchange(dropped_hellos_, all);
}

// A Hello that fails at once settles within: its place gets its turn the next time.
void CurvecpEndpoint::serve_hellos() {
    if (std::exchange(serving_, true)) return;
    for (const auto& place : answering_) {
        if (place->runner || queue_.size() == 0) continue;
        if (!queue_.allowed(io::now())) {
            hello_timer_.expires_after(std::chrono::milliseconds(2));
            hello_timer_.async_wait([this, alive = alive_](error_code error) {
                if (!error && *alive) serve_hellos();
            });
            break;
        }
        if (const auto waiting = queue_.pop(io::now())) answer(*place, *waiting);
    }
    count_dropped_hellos();
    serving_ = false;
}

void CurvecpEndpoint::answer(Hello& place, const HelloQueue::Hello& waiting) const {
    place.path = waiting.path;
    place.runner.emplace(place, tools_.vault->server_slot(), crypto::PacketNumber{});
    place.runner->feed(event::HelloArrived{waiting.packet});
}

}  // namespace curvegate::tunnel::curvecp
