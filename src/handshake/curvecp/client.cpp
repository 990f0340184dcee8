#include "handshake/curvecp/client.hpp"

#include "handshake/steps.hpp"

namespace curvegate::handshake::curvecp {
namespace {

namespace wire = wire::curvecp;

// What this program chose: when a Hello is repeated, and how long Initiates stay unanswered before the client
// asks itself whether its address has changed (a cookie is good for one address).
constexpr Duration kFirstPatience = std::chrono::milliseconds(250);
constexpr Duration kMostPatience = std::chrono::seconds(2);
constexpr Duration kConfirmWithin = std::chrono::seconds(3);

}  // namespace

std::string_view name_of(ClientState state) noexcept {
    constexpr std::array<std::string_view, kClientStates> names = {"ready",   "initiating", "vouching",
                                                                   "vouched", "connected",  "closed"};
    return names[static_cast<std::size_t>(state)];
}

Client::Client(const Destination& destination, const Timeouts& timeouts, Instant limit) noexcept
    : Machine(limit), destination_(destination), timeouts_(timeouts), limit_(limit), state_(Ready{}) {}

Actions Client::refuse(Error why) {
    if (why.is(Errc::unexpected_packet)) return {action::Drop{std::move(why)}};
    return close(std::move(why));
}

Actions Client::on_start(Ready&, event::Start& start, Instant now) {
    return begin(start, now);
}

Actions Client::on_start_afresh(Vouched&, event::Start& start, Instant now) {
    return begin(start, now);
}

Actions Client::begin(event::Start& start, Instant now) {
    auto with_server = crypto::agree(start.keys.secret, destination_.server);
    if (!with_server) return close(local_fault(with_server.error()));
    auto& next = state_.emplace<Initiating>(std::move(start.keys), std::move(*with_server),
                                            crypto::SendCounter(start.first), kFirstPatience);
    return say_hello(next, now);
}

// PROTOCOL 7.3: the same C' each time, a number of its own each time.
Actions Client::say_hello(Initiating& state, Instant now) {
    auto number = state.counter.next();
    if (!number) return close(session::Errc::numbers_exhausted);
    wire::SealedHello hello{destination_.extensions, state.keys.public_key, number->number(), {}};
    hello.box = seal_hello(state.with_server, std::move(*number), wire::number_bytes);
    action::Send send{{}, wire::kHelloSize};
    serialise(hello, send.bytes);
    deadline_ = std::min(now + state.patience, limit_);
    state.patience = std::min(2 * state.patience, kMostPatience);
    return {send};
}

Actions Client::on_no_cookie(Initiating& state, event::DeadlineReached&, Instant now) {
    if (now >= limit_) return close(Errc::connect_timeout);
    return say_hello(state, now);
}

Actions Client::on_cookie(Initiating& state, event::CookieArrived& arrived, Instant now) {
    const auto& cookie = arrived.packet;
    if (cookie.extensions != destination_.extensions)
        return {action::Drop{curvegate::wire::Errc::wrong_extension}};
    const auto body = open_cookie(state.with_server, cookie.nonce, cookie.box);
    if (!body) return {action::Drop{body.error()}};
    auto shared = crypto::agree(state.keys.secret, body->server_short);
    if (!shared) return close(local_fault(shared.error()));
    const auto request = ask_for_vouch(destination_.server, state.keys.public_key);
    state_ = Vouching{std::move(*shared), state.keys.public_key, std::move(state.counter), body->cookie};
    deadline_ = std::min(now + timeouts_.vault, limit_);
    return {action::AskVault{request}};
}

Actions Client::on_vouch_made(Vouching& state, event::VouchMade& made, Instant now) {
    const auto body = introduce(made.vouch);
    if (!body) return close(body.error());
    const wire::ClientShort client_short{to_array(state.client_short.bytes())};
    auto session =
        session::curvecp::Session::create(session::Role::client, std::move(state.shared),
                                          destination_.extensions, client_short, std::move(state.counter));
    if (!session) return close(local_fault(session.error()));
    Actions out{action::Vouched{std::move(*session), {state.cookie, *body, destination_.name}}};
    state_ = Vouched{};
    deadline_ = std::min(now + kConfirmWithin, limit_);
    return out;
}

Actions Client::on_vault_silent(Vouching&, event::DeadlineReached&, Instant now) {
    return close(now < limit_ ? Errc::vault_timeout : Errc::connect_timeout);
}

Actions Client::on_confirmed(Vouched&, event::Confirmed&, Instant) {
    state_ = Connected{};
    deadline_.reset();
    return {};
}

Actions Client::on_no_answer(Vouched&, event::DeadlineReached&, Instant now) {
    if (now >= limit_) return close(Errc::connect_timeout);
    deadline_ = limit_;
    return {action::AskAfresh{}};
}

}  // namespace curvegate::handshake::curvecp
