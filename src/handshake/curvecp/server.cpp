#include "handshake/curvecp/server.hpp"

#include "crypto/box.hpp"

namespace curvegate::handshake::curvecp {
namespace {

namespace wire = wire::curvecp;

}  // namespace

std::string_view name_of(ServerState state) noexcept {
    constexpr std::array<std::string_view, kServerStates> names = {"ready",     "issuing",   "answering",
                                                                   "redeeming", "checking",  "authorising",
                                                                   "claiming",  "connected", "closed"};
    return names[static_cast<std::size_t>(state)];
}

Server::Server(vault::KeySlot slot, crypto::PacketNumber first_sent) noexcept
    : slot_(slot), first_sent_(first_sent), state_(Ready{}) {}

ServerState Server::state() const noexcept {
    return static_cast<ServerState>(state_.index());
}

Actions Server::handle(Event&& event, Instant) {
    const EventKind kind = kind_of(event);
    const ServerState from = state();
    if (from == ServerState::closed) return {};  // late answers find nobody
    if (auto why = reason_to_close(event)) return close(std::move(*why));
    if (find_transition<ServerState>(kServerTable, from, kind) == nullptr) return close(undeclared(kind));
    return step(std::move(event));
}

// Only pairs of the table come here, so each event names its state.
Actions Server::step(Event&& event) {
    switch (kind_of(event)) {
        case EventKind::hello: {
            const auto& hello = std::get<event::HelloArrived>(event).hello;
            state_ = Issuing{hello, false};
            return {action::IssueCookie{hello.client_short, slot_}};
        }
        case EventKind::cookie_issued:
            return on_cookie_issued(std::get<Issuing>(state_), std::get<event::CookieIssued>(event));
        case EventKind::hello_answered:
            return on_hello_answered(std::get<Answering>(state_),
                                     std::get<event::HelloAnswered>(event).answer);
        case EventKind::other_slot:
            return on_other_slot(std::get<Answering>(state_), std::get<event::OtherSlot>(event).slot);
        case EventKind::vouch: return on_initiate(std::get<event::InitiateArrived>(event));
        case EventKind::cookie_redeemed:
            return on_cookie_redeemed(std::get<Redeeming>(state_), std::get<event::CookieRedeemed>(event));
        case EventKind::vouch_is_good: {
            Authorising next{std::move(std::get<Checking>(state_))};
            Actions out{action::Authorise{next.client, next.name}};
            state_ = std::move(next);
            return out;
        }
        case EventKind::authorised: {
            Claiming next{std::move(std::get<Authorising>(state_))};
            Actions out{action::ClaimCookie{next.ticket}};
            state_ = std::move(next);
            return out;
        }
        case EventKind::cookie_claimed: return on_claimed(std::get<Claiming>(state_));
        default: return close(undeclared(kind_of(event)));
    }
}

Actions Server::on_cookie_issued(Issuing& state, const event::CookieIssued& issued) {
    const auto& hello = state.hello;
    vault::AnswerHello request{
        slot_, to_array(hello.client_short.bytes()), wire::number_bytes(hello.number), hello.box.bytes, {}};
    serialise(curvegate::wire::CookieBody{issued.server_short, issued.cookie}, request.payload);
    state_ = Answering{Issuing(state)};
    return {action::AskVault{request}};
}

Actions Server::on_hello_answered(const Answering& state, const vault::HelloAnswer& answer) {
    action::Send send{{}, wire::kCookiePacketSize};
    serialise(wire::SealedCookie{state.issued.hello.extensions, answer.nonce, {answer.box}},
              MutableBytes(send.bytes).first<wire::kCookiePacketSize>());
    state_ = Closed{};
    return {send};
}

// The cookie is bound to the slot, so there must be another one, with a key pair of its own.
Actions Server::on_other_slot(const Answering& state, vault::KeySlot slot) {
    if (state.issued.again || slot == slot_) return close(Errc::hello_refused);
    slot_ = slot;
    const Issuing next{state.issued.hello, true};
    state_ = next;
    return {action::IssueCookie{next.hello.client_short, slot_}};
}

Actions Server::on_initiate(const event::InitiateArrived& arrived) {
    Redeeming next{arrived.header, {}, arrived.packet.size() - wire::kInitiateHeader};
    std::ranges::copy(arrived.packet.subspan(wire::kInitiateHeader), next.box.begin());
    state_ = next;
    return {action::RedeemCookie{arrived.header.cookie, std::nullopt}};
}

Actions Server::on_cookie_redeemed(Redeeming& state, const cookie::Redeemed& redeemed) {
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
    const vault::OpenVouch request{slot, to_array(body->client.bytes()), body->nonce, body->vouch.bytes,
                                   to_array(client_short.bytes())};
    state_ = std::move(next);
    return {action::AskVault{request}};
}

Actions Server::on_claimed(Claiming& state) {
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

Actions Server::close(Error why) {
    state_ = Closed{};
    return {action::Close{std::move(why)}};
}

}  // namespace curvegate::handshake::curvecp
