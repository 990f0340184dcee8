#include "handshake/curvecp/client.hpp"

#include "crypto/box.hpp"

namespace curvegate::handshake::curvecp {
namespace {

namespace wire = wire::curvecp;

// What this program chose: when a Hello is repeated, and how long Initiates stay unanswered before the client
// asks itself whether its address has changed (a cookie is good for one address).
constexpr Duration kFirstPatience = std::chrono::milliseconds(250);
constexpr Duration kMostPatience = std::chrono::seconds(2);
constexpr Duration kConfirmWithin = std::chrono::seconds(3);
constexpr ByteArray<curvegate::wire::kHelloPlainSize> kHelloPlain{};

}  // namespace

std::string_view name_of(ClientState state) noexcept {
    constexpr std::array<std::string_view, kClientStates> names = {"ready",   "initiating", "vouching",
                                                                   "vouched", "connected",  "closed"};
    return names[static_cast<std::size_t>(state)];
}

Client::Client(const Destination& destination, const Timeouts& timeouts, Instant limit) noexcept
    : destination_(destination), timeouts_(timeouts), limit_(limit), deadline_(limit), state_(Ready{}) {}

ClientState Client::state() const noexcept {
    return static_cast<ClientState>(state_.index());
}

Actions Client::handle(Event&& event, Instant now) {
    const EventKind kind = kind_of(event);
    const ClientState from = state();
    if (from == ClientState::closed) return {};
    if (auto why = reason_to_close(event)) return close(std::move(*why));
    if (kind == EventKind::deadline_reached) return on_deadline(now);
    if (find_transition<ClientState>(kClientTable, from, kind) == nullptr) {
        // A second Cookie, a stray packet: anybody can send them, so nothing changes.
        const Error why = undeclared(kind);
        if (why.is(Errc::unexpected_packet)) return {action::Drop{why}};
        return close(why);
    }
    return step(std::move(event), now);
}

// Only pairs of the table come here, so each event names its state.
Actions Client::step(Event&& event, Instant now) {
    switch (kind_of(event)) {
        case EventKind::start: return on_start(std::move(std::get<event::Start>(event)), now);
        case EventKind::cookie:
            return on_cookie(std::get<Initiating>(state_), std::get<event::CookieArrived>(event).cookie, now);
        case EventKind::vouch_made:
            return on_vouch_made(std::get<Vouching>(state_), std::get<event::VouchMade>(event).vouch, now);
        case EventKind::message:
            state_ = Connected{};
            deadline_.reset();
            return {};
        default: return close(undeclared(kind_of(event)));
    }
}

Actions Client::on_start(event::Start&& start, Instant now) {
    auto with_server = crypto::agree(start.keys.secret, destination_.server);
    if (!with_server) return close(local_fault(with_server.error()));
    state_ = Initiating{std::move(start.keys), std::move(*with_server), crypto::SendCounter(start.first),
                        kFirstPatience};
    return say_hello(std::get<Initiating>(state_), now);
}

// PROTOCOL 7.3: the same C' each time, a number of its own each time.
Actions Client::say_hello(Initiating& state, Instant now) {
    const auto number = state.counter.next();
    if (!number) return close(session::Errc::numbers_exhausted);
    wire::SealedHello hello{destination_.extensions, state.keys.public_key, *number, {}};
    const auto nonce = crypto::Nonce::make(crypto::ShortPurpose::hello, wire::number_bytes(*number));
    crypto::seal(state.with_server, nonce, kHelloPlain, hello.box.bytes);
    action::Send send{{}, wire::kHelloSize};
    serialise(hello, send.bytes);
    deadline_ = std::min(now + state.patience, limit_);
    state.patience = std::min(2 * state.patience, kMostPatience);
    return {send};
}

Actions Client::on_cookie(Initiating& state, const wire::SealedCookie& cookie, Instant now) {
    if (cookie.extensions != destination_.extensions)
        return {action::Drop{curvegate::wire::Errc::wrong_extension}};
    ByteArray<curvegate::wire::kCookieBodySize> plain{};
    const auto nonce = crypto::Nonce::make(crypto::LongPurpose::cookie, cookie.nonce);
    if (!crypto::open(state.with_server, nonce, cookie.box.bytes, plain))
        return {action::Drop{Errc::cookie_does_not_open}};
    const auto body = curvegate::wire::parse_cookie_body(plain);
    if (!body) return {action::Drop{body.error()}};
    auto shared = crypto::agree(state.keys.secret, body->server_short);
    if (!shared) return close(local_fault(shared.error()));
    const vault::MakeVouch request{to_array(destination_.server.bytes()),
                                   to_array(state.keys.public_key.bytes())};
    state_ = Vouching{std::move(*shared), state.keys.public_key, std::move(state.counter), body->cookie};
    deadline_ = std::min(now + timeouts_.vault, limit_);
    return {action::AskVault{request}};
}

Actions Client::on_vouch_made(Vouching& state, const vault::Vouch& made, Instant now) {
    const auto client = crypto::PublicKey::parse(made.client);
    if (!client) return close(client.error());
    const wire::ClientShort client_short{to_array(state.client_short.bytes())};
    auto session =
        session::curvecp::Session::create(session::Role::client, std::move(state.shared),
                                          destination_.extensions, client_short, std::move(state.counter));
    if (!session) return close(local_fault(session.error()));
    Actions out{action::Vouched{std::move(*session),
                                {state.cookie, {*client, made.nonce, {made.vouch}}, destination_.name}}};
    state_ = Vouched{};
    deadline_ = std::min(now + kConfirmWithin, limit_);
    return out;
}

Actions Client::on_deadline(Instant now) {
    switch (state()) {
        case ClientState::initiating:
            if (now < limit_) return say_hello(std::get<Initiating>(state_), now);
            return close(Errc::connect_timeout);
        case ClientState::vouching: return close(now < limit_ ? Errc::vault_timeout : Errc::connect_timeout);
        case ClientState::vouched:
            if (now >= limit_) return close(Errc::connect_timeout);
            deadline_ = limit_;
            return {action::AskAfresh{}};
        default: return close(Errc::connect_timeout);
    }
}

Actions Client::close(Error why) {
    state_ = Closed{};
    deadline_.reset();
    return {action::Close{std::move(why)}};
}

}  // namespace curvegate::handshake::curvecp
