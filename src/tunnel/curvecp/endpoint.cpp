#include "tunnel/curvecp/endpoint.hpp"

#include "crypto/permutation.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "tunnel/curvecp/server_tunnel.hpp"

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

/// A Hello that is being answered.
struct CurvecpEndpoint::Hello {
    std::optional<machine::Server> fsm;  // empty: the slot is free
    Path path;
};

/// An Initiate that is being checked.
struct CurvecpEndpoint::Newcomer {
    machine::Server fsm;
    Path path;
    wire::ClientShort client_short;
    std::shared_ptr<Guest> guest;                    // from when the cookie has opened
    std::optional<guard::Admission::Ticket> ticket;  // the same
    struct Packet {
        Path from;
        std::vector<Byte> bytes;
    };
    std::vector<Packet> overtaking;  // of the same connection, at most kQueuedPackets
};

std::size_t CurvecpEndpoint::ShortKeyHash::operator()(const wire::ClientShort& client_short) const noexcept {
    return crypto::siphash(key, client_short.bytes);
}

CurvecpEndpoint::CurvecpEndpoint(asio::io_context& context, os::UniqueFd sessions, os::UniqueFd hellos,
                                 const Options& options, const tunnel::HandshakeTools& tools,
                                 std::shared_ptr<guard::Admission> admission,
                                 std::shared_ptr<guard::Counters> counters, MakeGuest make_guest)
    : context_(context),
      sessions_(context, std::move(sessions), io::Gro::on),
      hellos_(context, std::move(hellos), io::Gro::off),
      options_(options),
      tools_(tools),
      admission_(std::move(admission)),
      counters_(std::move(counters)),
      make_guest_(std::move(make_guest)),
      queue_(*tools.random),
      hello_timer_(context),
      read_timer_(context),
      answering_(vault_client::VaultClient::kMaxHellos) {
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
        if (const auto tunnel = entry.lock()) tunnel->cut(tunnel::TunnelEnd::stopped);
    }
}

void CurvecpEndpoint::stop_accepting() {
    accepting_ = false;
    hellos_.close();
}

void CurvecpEndpoint::drop(const Error& why, const Path& from) {
    counters_->refuse(why);
    log::limited(log::Level::info, "packet_drop",
                 {{"src", io::source_text(from.peer, options_.addresses)}, {"reason", why.text()}});
}

cookie::Binding CurvecpEndpoint::binding(const Path& from, vault::KeySlot slot) const {
    return {cookie::Carrier::udp, static_cast<Byte>(slot), from.peer.address.ip};
}

crypto::PacketNumber CurvecpEndpoint::first_number() const {
    ByteArray<8> bytes{};
    tools_.random->fill(MutableBytes(bytes).first(6));  // below 2^48
    return {load_le<std::uint64_t>(bytes)};
}

// ---- sockets ----

void CurvecpEndpoint::wait_sessions() {
    sessions_.wait_readable([this, alive = alive_] {
        if (!*alive) return;
        for (int i = 0; i < kBatches && *alive; ++i) {
            const std::size_t count =
                sessions_.receive([this](const Path& from, MutableBytes packet) { on_packet(from, packet); });
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
    hellos_.wait_readable([this, alive = alive_] {
        if (!*alive || !accepting_) return;
        for (int i = 0; i < kBatches; ++i) {
            const std::size_t count =
                hellos_.receive([this](const Path& from, MutableBytes packet) { on_hello(from, packet); });
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
    return sessions_.send(to, train, segment);
}

void CurvecpEndpoint::wait_room() {
    if (std::exchange(waits_room_, true)) return;
    sessions_.wait_writable([this, alive = alive_] {
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
        if (tunnel ? !tunnel->has(server) : server != options_.extension)
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
    auto newcomer =
        std::make_shared<Newcomer>(Newcomer{machine::Server(vault::KeySlot::server, first_number()),
                                            from,
                                            header.client_short,
                                            nullptr,
                                            std::nullopt,
                                            {}});
    newcomers_.emplace(header.client_short, newcomer);
    feed(newcomer, event::InitiateArrived{header, packet});
}

void CurvecpEndpoint::feed(const std::shared_ptr<Newcomer>& newcomer, Event&& first) {
    std::optional<Event> next(std::move(first));
    while (next) {
        auto actions = newcomer->fsm.handle(std::move(*next), io::now());
        next.reset();
        for (auto& step : actions) {
            if (auto answer = run(newcomer, step)) next = std::move(answer);
        }
    }
}

// Gives the event that answers the action at once, or nothing if the answer comes later or it was the last.
std::optional<Event> CurvecpEndpoint::run(const std::shared_ptr<Newcomer>& newcomer, machine::Action& step) {
    if (const auto* redeem = std::get_if<action::RedeemCookie>(&step)) {
        auto redeemed = tools_.keeper->redeem(
            redeem->cookie, cookie::Origin{cookie::Carrier::udp, newcomer->path.peer.address.ip}, io::now());
        if (!redeemed) return event::CookieRefused{redeemed.error()};
        if (redeemed->used) return event::CookieRedeemed{std::move(*redeemed)};  // a replay costs no place
        // The source has proven itself; what follows costs public-key work, so the budgets come first.
        auto ticket = admission_->admit(newcomer->path.peer.address.ip, io::now(), tools_.vault->busy(),
                                        [this, alive = alive_, weak = std::weak_ptr(newcomer)] {
                                            asio::post(context_, [this, alive, weak] {
                                                const auto evicted = weak.lock();
                                                if (*alive && evicted) feed(evicted, event::Stop{});
                                            });
                                        });
        if (!ticket) return event::NotPossible{ticket.error()};
        newcomer->ticket.emplace(std::move(*ticket));
        newcomer->guest = make_guest_(newcomer->path);
        return event::CookieRedeemed{std::move(*redeemed)};
    }
    if (const auto* ask = std::get_if<action::AskVault>(&step)) {
        tools_.vault->ask(ask->request, [this, alive = alive_, newcomer](Result<vault::ReplyBody> reply) {
            if (*alive) feed(newcomer, handshake::event_of<Event>(std::move(reply)));
        });
        return std::nullopt;
    }
    if (const auto* ask = std::get_if<action::Authorise>(&step)) {
        auto why = newcomer->guest->authorise(ask->client, ask->name);
        if (why) return event::NotAuthorised{std::move(*why)};
        return event::Authorised{};
    }
    if (const auto* claim = std::get_if<action::ClaimCookie>(&step)) {
        if (!tools_.keeper->claim(claim->ticket)) return event::CookieRefused{handshake::Errc::cookie_used};
        return event::CookieClaimed{};
    }
    if (auto* established = std::get_if<action::Established>(&step)) {
        admit(newcomer, *established);
    } else if (const auto* close = std::get_if<action::Close>(&step)) {
        newcomers_.erase(newcomer->client_short);
        if (!newcomer->guest) {
            drop(close->why, newcomer->path);
        } else {
            newcomer->guest->refused(close->why);
        }
    }
    return std::nullopt;
}

void CurvecpEndpoint::admit(const std::shared_ptr<Newcomer>& newcomer, action::Established& established) {
    newcomers_.erase(newcomer->client_short);
    newcomer->ticket->succeed(io::now());
    newcomer->ticket.reset();
    const auto tunnel = std::make_shared<ServerTunnel>(*this, std::move(established.session), newcomer->path,
                                                       newcomer->guest);
    tunnels_.insert_or_assign(newcomer->client_short, tunnel);
    newcomer->guest->established(tunnel->hand_over(), established.slot);
    tunnel->receive_first(MutableBytes(established.message).first(established.message_size));
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
    if (hello->extensions.server != options_.extension)
        return drop(curvegate::wire::Errc::wrong_extension, from);
    if (!queue_.push(from, packet.first<wire::kHelloSize>(), io::now())) ++counters_->hellos_dropped;
}

void CurvecpEndpoint::serve_hellos() {
    for (auto& slot : answering_) {
        if (slot.fsm || queue_.size() == 0) continue;
        if (!queue_.allowed(io::now())) {
            hello_timer_.expires_after(std::chrono::milliseconds(2));
            hello_timer_.async_wait([this, alive = alive_](error_code error) {
                if (!error && *alive) serve_hellos();
            });
            return;
        }
        if (const auto waiting = queue_.pop(io::now())) answer(slot, *waiting);
    }
}

void CurvecpEndpoint::answer(Hello& slot, const guard::HelloQueue::Hello& waiting) {
    const auto parsed = wire::parse_to_server(waiting.packet);
    slot.path = waiting.path;
    slot.fsm.emplace(tools_.vault->server_slot(), crypto::PacketNumber{});
    feed(slot, event::HelloArrived{std::get<wire::SealedHello>(*parsed)});
}

void CurvecpEndpoint::feed(Hello& slot, Event&& first) {
    std::optional<Event> next(std::move(first));
    while (next) {
        auto actions = slot.fsm->handle(std::move(*next), io::now());
        next.reset();
        auto& step = actions.front();
        if (const auto* issue = std::get_if<action::IssueCookie>(&step)) {
            // PROTOCOL 7.3: a key pair of its own for each Hello, an identical one too.
            auto keys = crypto::EphemeralKeyPair::generate(*tools_.pool, *tools_.random);
            if (!keys) {
                next = event::NotPossible{keys.error()};
                continue;
            }
            auto cookie = tools_.keeper->issue(binding(slot.path, issue->slot), issue->client_short,
                                               keys->secret, *tools_.random, io::now());
            if (cookie) {
                next = event::CookieIssued{keys->public_key, *cookie};
            } else {
                next = event::CookieRefused{cookie.error()};
            }
        } else if (const auto* ask = std::get_if<action::AskVault>(&step)) {
            tools_.vault->ask(ask->request, [this, alive = alive_, &slot](Result<vault::ReplyBody> reply) {
                if (!*alive) return;
                feed(slot, handshake::event_of<Event>(std::move(reply)));
                serve_hellos();
            });
        } else if (const auto* send = std::get_if<action::Send>(&step)) {
            ++counters_->hellos_answered;
            (void)sessions_.send(slot.path, send->packet(), send->size);
        } else if (const auto* close = std::get_if<action::Close>(&step)) {
            drop(close->why, slot.path);
        }
    }
    if (slot.fsm->state() == machine::ServerState::closed) slot.fsm.reset();
}

}  // namespace curvegate::tunnel::curvecp
