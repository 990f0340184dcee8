#pragma once

#include "handshake/curvecp/client.hpp"
#include "handshake/curvecp/server.hpp"
#include "support/ends.hpp"

#include <stdexcept>

/// The machines of CurveCP without a network: what their actor does with vault, keeper and timers, driven by
/// hand, and one valid handshake as a list of events, so that either machine can be taken to any state.
namespace curvegate::test::udp {

namespace fsm = handshake::curvecp;
namespace event = fsm::event;
namespace action = fsm::action;
namespace packets = wire::curvecp;
using fsm::Actions;
using fsm::Event;
using handshake::EventKind;
using session::curvecp::Introduction;
using session::curvecp::Session;

inline const cookie::Binding kBinding{cookie::Wire::curvecp, 0,
                                      IpAddress::from_v4(ByteArray<4>{127, 0, 0, 1})};
inline const packets::Extensions kExtensions{{{1, 2, 3, 4}}, {{5, 6, 7, 8}}};
inline constexpr crypto::PacketNumber kClientFirst{0x0000'1234'5678'9abc};
inline constexpr crypto::PacketNumber kServerFirst{0x0000'7777'0000'0000};
/// How long a client of these tests tries.
inline constexpr Duration kLimit = std::chrono::seconds(10);

/// The same for every machine: events are moved into it, and tests that look at a packet hold a copy.
inline crypto::EphemeralKeyPair again(const crypto::EphemeralKeyPair& keys) {
    return key_pair_of(to_array(FixedBytes<32>(crypto::SecretBytes::of(keys.secret))));
}

/// The event that a vault's answer is.
inline Event event_of(const vault::ReplyBody& reply) {
    struct {
        Event operator()(const vault::HelloAnswer& answer) const { return event::HelloAnswered{answer}; }
        Event operator()(const vault::Vouch& vouch) const { return event::VouchMade{vouch}; }
        Event operator()(const vault::VouchIsGood&) const { return event::VouchIsGood{}; }
        Event operator()(const vault::Refused& refused) const { return event::VaultRefused{refused.status}; }
        Event operator()(const vault::PublicKeyIs&) const { return event::VaultLost{"another question"}; }
        Event operator()(const vault::OtherSlot& other) const { return event::OtherSlot{other.slot}; }
        Event operator()(const vault::KeyDropped&) const { return event::VaultLost{"another question"}; }
    } visitor;
    return std::visit(visitor, reply);
}

inline Buffer sealed_initiate(Session& session, const Introduction& introduction, Bytes message) {
    Buffer packet(packets::kInitiateOverhead);
    packet.insert(packet.end(), message.begin(), message.end());
    if (!session.seal_initiate(introduction, packet)) throw std::logic_error("no number left");
    return packet;
}
inline Buffer sealed_message(Session& session, Bytes message) {
    Buffer packet(session.overhead());
    packet.insert(packet.end(), message.begin(), message.end());
    if (!session.seal_message(packet)) throw std::logic_error("no number left");
    return packet;
}
inline event::InitiateArrived initiate_arrived(const Buffer& packet) {
    return {std::get<packets::InitiateHeader>(*packets::parse_to_server(packet)), packet};
}

/// One machine and its actor. Runs until the machine wants nothing more.
template <class Machine>
class End {
  public:
    End(Machine machine, World& world) : machine_(std::move(machine)), world_(&world) {}

    bool waits_to_claim = false;  ///< server: leave the cookie unclaimed until claim()
    std::function<std::optional<std::string>(const action::Authorise&)> authorise =
        [](const action::Authorise&) { return std::nullopt; };
    std::function<void(vault::Vouch&)> spoil_vouch = [](vault::Vouch&) {};  ///< client: of a vault that lies
    cookie::Binding binding = kBinding;

    std::vector<Buffer> sent;
    std::vector<Error> dropped;
    std::optional<Session> session;
    std::optional<Introduction> introduction;  ///< client
    std::optional<crypto::PublicKey> peer;     ///< server
    vault::KeySlot slot{};                     ///< server
    Buffer message;                            ///< server: the client's first
    std::optional<Error> closed;
    std::optional<cookie::Ticket> to_claim;
    int asked_afresh = 0;

    [[nodiscard]] auto state() const noexcept { return machine_.state(); }
    [[nodiscard]] Deadline next_deadline() const noexcept { return machine_.next_deadline(); }

    void feed(Event&& first, Instant now) {
        std::optional<Event> next(std::move(first));
        while (next) {
            auto actions = machine_.handle(std::move(*next), now);
            next = std::visit([&](auto& act) { return run(act, now); }, actions[0]);
        }
    }
    /// False: it is no packet for this end, and the machine never saw it.
    bool receive(const Buffer& packet, Instant now) {
        if constexpr (std::is_same_v<Machine, fsm::Client>) {
            const auto parsed = packets::parse_to_client(packet);
            if (!parsed || !std::holds_alternative<packets::SealedCookie>(*parsed)) return false;
            feed(event::CookieArrived{std::get<packets::SealedCookie>(*parsed)}, now);
        } else {
            const auto parsed = packets::parse_to_server(packet);
            if (!parsed) return false;
            if (const auto* hello = std::get_if<packets::SealedHello>(&*parsed)) {
                feed(event::HelloArrived{*hello}, now);
            } else if (const auto* header = std::get_if<packets::InitiateHeader>(&*parsed)) {
                feed(event::InitiateArrived{*header, packet}, now);
            } else {
                return false;
            }
        }
        return true;
    }
    void claim(Instant now) {
        const auto ticket = *std::exchange(to_claim, std::nullopt);
        if (world_->keeper.claim(ticket)) {
            feed(event::CookieClaimed{}, now);
        } else {
            feed(event::CookieRefused{handshake::Errc::cookie_used}, now);
        }
    }

  private:
    std::optional<Event> run(std::monostate&, Instant) { return std::nullopt; }
    std::optional<Event> run(action::Send& send, Instant) {
        sent.push_back(copy_of(send.packet()));
        return std::nullopt;
    }
    std::optional<Event> run(action::IssueCookie& issue, Instant now) {
        const auto keys = world_->fresh_keys();
        auto bound = binding;
        bound.key_slot = static_cast<Byte>(issue.slot);
        auto cookie = world_->keeper.issue(bound, issue.client_short, keys.secret, world_->random, now);
        if (!cookie) return event::CookieRefused{cookie.error()};
        return event::CookieIssued{keys.public_key, *cookie};
    }
    std::optional<Event> run(action::RedeemCookie& redeem, Instant now) {
        const cookie::Origin origin{binding.wire, binding.source};
        auto redeemed = world_->keeper.redeem(redeem.cookie, origin, now);
        if (!redeemed) return event::CookieRefused{redeemed.error()};
        return event::CookieRedeemed{std::move(*redeemed)};
    }
    std::optional<Event> run(action::AskVault& ask, Instant) {
        const bool client = std::is_same_v<Machine, fsm::Client>;
        auto reply = (client ? world_->client_vault : world_->server_vault).ask(ask.request);
        if (auto* made = std::get_if<vault::Vouch>(&reply)) spoil_vouch(*made);
        return event_of(reply);
    }
    std::optional<Event> run(action::Authorise& ask, Instant) {
        if (auto why = authorise(ask)) return event::NotAuthorised{std::move(*why)};
        return event::Authorised{};
    }
    std::optional<Event> run(action::ClaimCookie& claim, Instant) {
        if (waits_to_claim) {
            to_claim = claim.ticket;
            return std::nullopt;
        }
        if (world_->keeper.claim(claim.ticket)) return event::CookieClaimed{};
        return event::CookieRefused{handshake::Errc::cookie_used};
    }
    std::optional<Event> run(action::Established& established, Instant) {
        session = std::move(established.session);
        peer = established.peer;
        slot = established.slot;
        message = copy_of(Bytes(established.message).first(established.message_size));
        return std::nullopt;
    }
    std::optional<Event> run(action::Vouched& vouched, Instant) {
        session = std::move(vouched.session);
        introduction = vouched.introduction;
        return std::nullopt;
    }
    std::optional<Event> run(action::AskAfresh&, Instant) {
        ++asked_afresh;
        return std::nullopt;
    }
    std::optional<Event> run(action::Drop& drop, Instant) {
        dropped.push_back(std::move(drop.why));
        return std::nullopt;
    }
    std::optional<Event> run(action::Close& close, Instant) {
        closed = std::move(close.why);
        return std::nullopt;
    }

    Machine machine_;
    World* world_;
};
using ClientEnd = End<fsm::Client>;
using ServerEnd = End<fsm::Server>;

inline fsm::Destination destination(const World& world) {
    return {world.server_vault.key, kExtensions, *packets::encode_server_name("web")};
}
inline ClientEnd client_end(World& world, Instant now = kStart) {
    return {fsm::Client(destination(world), world.timeouts, now + kLimit), world};
}
inline ServerEnd server_end(World& world) {
    return {fsm::Server(vault::KeySlot::server, kServerFirst), world};
}

/// A client up to its session: Hello, Cookie, vouch.
inline ClientEnd vouched_client(World& world, crypto::EphemeralKeyPair keys, Instant now = kStart) {
    auto client = client_end(world, now);
    client.feed(event::Start{std::move(keys), kClientFirst}, now);
    auto server = server_end(world);
    server.receive(client.sent.at(0), now);
    client.receive(server.sent.at(0), now);
    return client;
}

/// One handshake with keys that are always the same: its packets, its answers, and machines in every state.
class Script {
  public:
    Script() {
        auto client = vouched_client(world_, client_keys());
        hello_ = std::get<packets::SealedHello>(*packets::parse_to_server(client.sent.at(0)));
        cookie_ = *world_.keeper.issue(kBinding, client_keys().public_key, server_keys().secret,
                                       world_.random, kStart);
        vault::AnswerHello request{vault::KeySlot::server,
                                   to_array(hello_->client_short.bytes()),
                                   packets::number_bytes(hello_->number),
                                   hello_->box.bytes,
                                   {}};
        serialise(wire::CookieBody{server_keys().public_key, cookie_}, request.payload);
        answer_ = std::get<vault::HelloAnswer>(world_.server_vault.ask(request));
        const auto client_short = to_array(client_keys().public_key.bytes());
        vouch_made_ = std::get<vault::Vouch>(world_.client_vault.ask(
            vault::MakeVouch{to_array(world_.server_vault.key.bytes()), client_short}));
        initiate_ = initiate_with(introduction());
    }

    [[nodiscard]] World& world() { return world_; }
    [[nodiscard]] static crypto::EphemeralKeyPair client_keys() { return key_pair_of(secret_bytes(11)); }
    [[nodiscard]] static crypto::EphemeralKeyPair server_keys() { return key_pair_of(secret_bytes(12)); }
    [[nodiscard]] const packets::SealedHello& hello() const { return *hello_; }
    [[nodiscard]] const wire::Cookie& cookie() const { return cookie_; }
    [[nodiscard]] packets::SealedCookie cookie_packet() const {
        return {kExtensions, answer_.nonce, {answer_.box}};
    }
    [[nodiscard]] const Buffer& initiate() const { return initiate_; }
    [[nodiscard]] Introduction introduction() const {
        return {cookie_,
                {world_.client_vault.key, vouch_made_.nonce, {vouch_made_.vouch}},
                *packets::encode_server_name("web")};
    }
    /// An Initiate of a client that holds the right keys and says this inside its correct box.
    [[nodiscard]] Buffer initiate_with(const Introduction& introduction, Bytes message = pattern(48)) const {
        auto session = *Session::create(
            session::Role::client, *agree(client_keys().secret, server_keys().public_key), kExtensions,
            {to_array(client_keys().public_key.bytes())}, crypto::SendCounter({kClientFirst.value + 1}));
        return sealed_initiate(session, introduction, message);
    }

    [[nodiscard]] fsm::Server fresh_server() const { return {vault::KeySlot::server, kServerFirst}; }
    [[nodiscard]] fsm::Client fresh_client() const {
        return {destination(world_), world_.timeouts, kStart + kLimit};
    }
    /// The machine after the first events of a handshake that goes well, up to `state`.
    [[nodiscard]] fsm::Server server_in(fsm::ServerState state) {
        const bool hello = state == fsm::ServerState::issuing || state == fsm::ServerState::answering;
        if (hello) return driven(fresh_server(), kHelloWay, state);
        return driven(fresh_server(), kInitiateWay, state);
    }
    [[nodiscard]] fsm::Client client_in(fsm::ClientState state) {
        return driven(fresh_client(), kClientWay, state);
    }

    [[nodiscard]] Event event(EventKind kind) {
        switch (kind) {
            case EventKind::start: return event::Start{client_keys(), kClientFirst};
            case EventKind::hello: return event::HelloArrived{*hello_};
            case EventKind::cookie: return event::CookieArrived{cookie_packet()};
            case EventKind::vouch: return initiate_arrived(initiate_);
            case EventKind::message: return event::Confirmed{};
            case EventKind::cookie_issued: return event::CookieIssued{server_keys().public_key, cookie_};
            case EventKind::cookie_redeemed:
                return event::CookieRedeemed{*world_.keeper.redeem(cookie_, kBinding, kStart)};
            case EventKind::cookie_refused: return event::CookieRefused{cookie::Errc::does_not_open};
            case EventKind::cookie_claimed: return event::CookieClaimed{};
            case EventKind::not_possible: return event::NotPossible{crypto::Errc::secrets_full};
            case EventKind::hello_answered: return event::HelloAnswered{answer_};
            case EventKind::other_slot: return event::OtherSlot{vault::KeySlot{5}};
            case EventKind::vouch_made: return event::VouchMade{vouch_made_};
            case EventKind::vouch_is_good: return event::VouchIsGood{};
            case EventKind::vault_refused: return event::VaultRefused{vault::Status::over_rate};
            case EventKind::vault_lost: return event::VaultLost{"it ended"};
            case EventKind::authorised: return event::Authorised{};
            case EventKind::not_authorised: return event::NotAuthorised{"not in known_hosts"};
            case EventKind::deadline_reached: return event::DeadlineReached{};
            case EventKind::stop: return event::Stop{};
            case EventKind::packet_refused:
            case EventKind::written:
            case EventKind::peer_closed: break;  // curve_tun's alone
        }
        throw std::logic_error("no event of CurveCP");
    }

  private:
    static constexpr std::array kHelloWay = {EventKind::hello, EventKind::cookie_issued,
                                             EventKind::hello_answered};
    static constexpr std::array kInitiateWay = {EventKind::vouch,          EventKind::cookie_redeemed,
                                                EventKind::vouch_is_good,  EventKind::authorised,
                                                EventKind::cookie_claimed, EventKind::stop};
    static constexpr std::array kClientWay = {EventKind::start, EventKind::cookie, EventKind::vouch_made,
                                              EventKind::message, EventKind::stop};

    template <class Machine, std::size_t N, class State>
    Machine driven(Machine machine, const std::array<EventKind, N>& way, State state) {
        for (const auto kind : way) {
            if (machine.state() == state) break;
            (void)machine.handle(event(kind), kStart);
        }
        return machine;
    }

    World world_;
    std::optional<packets::SealedHello> hello_;
    wire::Cookie cookie_;
    vault::HelloAnswer answer_;
    vault::Vouch vouch_made_;
    Buffer initiate_;
};

}  // namespace curvegate::test::udp
