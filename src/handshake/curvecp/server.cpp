#include "handshake/curvecp/server.hpp"

#include "crypto/box.hpp"

namespace curvegate::handshake::curvecp {

namespace wire = wire::curvecp;

std::string_view name_of(ServerState state) noexcept {
    constexpr std::array<std::string_view, kServerStates> names = {"ready",     "issuing",   "answering",
                                                                   "redeeming", "checking",  "authorising",
                                                                   "claiming",  "connected", "closed"};
    return names[static_cast<std::size_t>(state)];
}

Server::Server(vault::KeySlot slot, crypto::PacketNumber first_sent) noexcept
    : slot_(slot), first_sent_(first_sent), state_(Ready{}) {}

Actions Server::on_hello(Ready&, event::HelloArrived& arrived, Instant) {
    return issue_cookie(arrived.packet);
}

Actions Server::issue_cookie(const wire::SealedHello& hello) {
    Actions out{action::IssueCookie{hello.client_short, slot_.get()}};
    state_ = Issuing{hello};
    return out;
}

Actions Server::on_cookie_issued(Issuing& state, event::CookieIssued& issued, Instant) {
    const auto& hello = state.hello;
    const auto request =
        ask_for_answer(slot_.get(), hello.client_short, wire::number_bytes(hello.number), hello.box, issued);
    state_ = Answering{state};
    return {action::AskVault{request}};
}

Actions Server::on_hello_answered(Answering& state, event::HelloAnswered& answered, Instant) {
    action::Send send{{}, wire::kCookiePacketSize};
    serialise(wire::SealedCookie{state.hello.extensions, answered.answer.nonce, {answered.answer.box}},
              MutableBytes(send.bytes).first<wire::kCookiePacketSize>());
    state_ = Closed{};
    return {send};
}

Actions Server::on_other_slot(Answering& state, event::OtherSlot& other, Instant) {
    if (auto turned = slot_.turn_to(other.slot); !turned) return close(std::move(turned.error()));
    return issue_cookie(state.hello);
}

Actions Server::on_initiate(Ready&, event::InitiateArrived& arrived, Instant) {
    Redeeming next{arrived.header, {}, arrived.packet.size() - wire::kInitiateHeader};
    std::ranges::copy(arrived.packet.subspan(wire::kInitiateHeader), next.box.begin());
    state_ = next;
    return {action::RedeemCookie{arrived.header.cookie, std::nullopt}};
}

Actions Server::on_cookie_redeemed(Redeeming& state, event::CookieRedeemed& redeemed, Instant) {
    if (redeemed.used) return close(Errc::cookie_used);  // before any public-key work
    const auto& client_short = redeemed.contents.client_short;
    if (!std::ranges::equal(client_short.bytes(), state.header.client_short.bytes))
        return close(Errc::cookie_mismatch);
    auto shared = crypto::agree(redeemed.contents.server_short, client_short);
    if (!shared) return close(local_fault(shared.error()));
    const auto box = MutableBytes(state.box).first(state.box_size);
    const auto nonce =
        crypto::Nonce::make(crypto::ShortPurpose::initiate, wire::number_bytes(state.header.number));
    if (!crypto::open_in_place(*shared, nonce, box)) return close(Errc::vouch_does_not_open);
    Reader plain(box.subspan(crypto::kBoxOverhead));
    const auto body = curvegate::wire::parse_vouch_body(plain.take<curvegate::wire::kVouchBodySize>());
    if (!body) return close(body.error());
    const auto slot = static_cast<vault::KeySlot>(redeemed.key_slot);
    Checking next{{std::move(*shared),
                   body->client,
                   slot,
                   redeemed.ticket,
                   state.header,
                   {to_array(plain.take<wire::kServerNameSize>())},
                   {},
                   plain.rest().size()}};
    std::ranges::copy(plain.rest(), next.message.begin());
    const auto request = ask_to_open(slot, *body, client_short);
    state_ = std::move(next);
    return {action::AskVault{request}};
}

Actions Server::on_vouch_is_good(Checking& state, event::VouchIsGood&, Instant) {
    Actions out{action::Authorise{state.client, state.name}};
    state_ = Authorising{std::move(state)};
    return out;
}

Actions Server::on_authorised(Authorising& state, event::Authorised&, Instant) {
    Actions out{action::ClaimCookie{state.ticket}};
    state_ = Claiming{std::move(state)};
    return out;
}

Actions Server::on_claimed(Claiming& state, event::CookieClaimed&, Instant) {
    auto session = session::curvecp::Session::create(session::Role::server, std::move(state.shared),
                                                     state.header.extensions, state.header.client_short,
                                                     crypto::SendCounter(first_sent_));
    if (!session) return close(local_fault(session.error()));
    session->mark_received(state.header.number);
    Actions out{action::Established{std::move(*session), state.client, state.message, state.message_size,
                                    state.slot}};
    state_ = Connected{};
    return out;
}

}  // namespace curvegate::handshake::curvecp
