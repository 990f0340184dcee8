#include "handshake/curve_tun/server.hpp"

#include "crypto/box.hpp"

namespace curvegate::handshake::curve_tun {
namespace {

namespace wire = wire::curve_tun;

crypto::LongTermNonce nonce_of(const wire::Cookie& cookie) {
    return {to_array(FixedBytes<wire::Cookie::kSize>(cookie.bytes).first<crypto::LongTermNonce::kSize>())};
}

}  // namespace

std::string_view name_of(ServerState state) noexcept {
    constexpr std::array<std::string_view, kServerStates> names = {"ready",       "issuing",   "answering",
                                                                   "accepting",   "redeeming", "checking",
                                                                   "authorising", "connected", "closed"};
    return names[static_cast<std::size_t>(state)];
}

Server::Server(vault::KeySlot slot, const Timeouts& timeouts, Instant now) noexcept
    : Machine(now + timeouts.hello), slot_(slot), timeouts_(timeouts), state_(Ready{}) {}

std::size_t Server::expected_packet_size() const noexcept {
    switch (state()) {
        case ServerState::ready: return wire::kHelloSize;
        case ServerState::accepting: return wire::kVouchSize;
        default: return 0;
    }
}

Actions Server::on_hello(Ready&, event::HelloArrived& arrived, Instant) {
    if (arrived.packet.number != wire::kHelloNumber) return close(Errc::wrong_number);  // PROTOCOL 4.3
    return issue_cookie(arrived.packet);
}

Actions Server::on_no_hello(Ready&, event::DeadlineReached&, Instant) {
    return close(Errc::hello_timeout);
}

Actions Server::issue_cookie(const wire::SealedHello& hello) {
    Actions out{action::IssueCookie{hello.client_short, slot_.get()}};
    state_ = Issuing{hello};
    return out;
}

Actions Server::on_cookie_issued(Issuing& state, event::CookieIssued& issued, Instant now) {
    const auto& hello = state.hello;
    const auto request =
        ask_for_answer(slot_.get(), hello.client_short, wire::number_bytes(hello.number), hello.box, issued);
    state_ = Answering{hello, nonce_of(issued.cookie)};
    deadline_ = now + timeouts_.vault;
    return {action::AskVault{request}};
}

Actions Server::on_hello_answered(Answering& state, event::HelloAnswered& answered, Instant now) {
    state_ = Accepting{state.hello.client_short, state.cookie_nonce};
    deadline_ = now + timeouts_.vouch;
    return {send(wire::SealedCookie{answered.answer.nonce, {answered.answer.box}})};
}

Actions Server::on_other_slot(Answering& state, event::OtherSlot& other, Instant) {
    if (auto turned = slot_.turn_to(other.slot); !turned) return close(std::move(turned.error()));
    return issue_cookie(state.hello);
}

Actions Server::on_vouch(Accepting& state, event::VouchArrived& arrived, Instant) {
    const auto& vouch = arrived.packet;
    if (vouch.number != wire::kVouchNumber) return close(Errc::wrong_number);  // PROTOCOL 4.5
    if (nonce_of(vouch.cookie) != state.cookie_nonce)
        return close(Errc::cookie_not_ours);  // one vouch, one cookie
    state_ = Redeeming{state.client_short, vouch};
    return {action::RedeemCookie{vouch.cookie, slot_.get()}};
}

Actions Server::on_no_vouch(Accepting&, event::DeadlineReached&, Instant) {
    return close(Errc::vouch_timeout);
}

Actions Server::on_cookie_redeemed(Redeeming& state, event::CookieRedeemed& redeemed, Instant now) {
    const auto& contents = redeemed.contents;
    if (contents.client_short != state.client_short) return close(Errc::cookie_mismatch);
    auto shared = crypto::agree(contents.server_short, contents.client_short);
    if (!shared) return close(local_fault(shared.error()));
    ByteArray<wire::kVouchBodySize> plain{};
    const auto nonce =
        crypto::Nonce::make(crypto::ShortPurpose::initiate, wire::number_bytes(state.vouch.number));
    if (!crypto::open(*shared, nonce, state.vouch.box.bytes, plain)) return close(Errc::vouch_does_not_open);
    const auto body = wire::parse_vouch_body(plain);
    if (!body) return close(body.error());
    const auto request = ask_to_open(slot_.get(), *body, state.client_short);
    state_ = Checking{std::move(*shared), body->client};
    deadline_ = now + timeouts_.vault;
    return {action::AskVault{request}};
}

Actions Server::on_vouch_is_good(Checking& state, event::VouchIsGood&, Instant) {
    Authorising next{std::move(state.shared), state.client};
    Actions out{action::Authorise{next.client}};
    state_ = std::move(next);
    deadline_.reset();
    return out;
}

Actions Server::on_authorised(Authorising& state, event::Authorised&, Instant) {
    auto session = session::curve_tun::Session::create(session::Role::server, state.shared);
    if (!session) return close(local_fault(session.error()));
    Actions out{action::Established{std::move(*session), state.client, slot_.get()}};
    state_ = Connected{};
    return out;
}

}  // namespace curvegate::handshake::curve_tun
