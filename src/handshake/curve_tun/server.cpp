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
    : slot_(slot), timeouts_(timeouts), deadline_(now + timeouts.hello), state_(Ready{}) {}

ServerState Server::state() const noexcept {
    return static_cast<ServerState>(state_.index());
}

std::size_t Server::expected_packet_size() const noexcept {
    switch (state()) {
        case ServerState::ready: return wire::kHelloSize;
        case ServerState::accepting: return wire::kVouchSize;
        default: return 0;
    }
}

Actions Server::handle(Event&& event, Instant now) {
    const EventKind kind = kind_of(event);
    const ServerState from = state();
    if (from == ServerState::closed) return {};  // late answers find nobody
    switch (kind) {
        case EventKind::packet_refused: return close(std::get<event::PacketRefused>(event).why);
        case EventKind::cookie_refused: return close(local_fault(std::get<event::CookieRefused>(event).why));
        case EventKind::not_possible: return close(local_fault(std::get<event::NotPossible>(event).why));
        case EventKind::vault_refused: return close(meaning_of(std::get<event::VaultRefused>(event).status));
        case EventKind::vault_lost:
            return close({Errc::vault_unavailable, std::get<event::VaultLost>(event).why});
        case EventKind::not_authorised:
            return close({Errc::not_authorised, std::get<event::NotAuthorised>(event).why});
        case EventKind::peer_closed: return close(Errc::peer_closed);
        case EventKind::deadline_reached: return close(timeout_reason());
        case EventKind::stop: return close(Errc::stopped);
        default: break;
    }
    if (find_transition<ServerState>(kServerTable, from, kind) == nullptr) return close(undeclared(kind));
    return step(std::move(event), now);
}

// Only pairs of the table come here, so each event names its state.
Actions Server::step(Event&& event, Instant now) {
    switch (kind_of(event)) {
        case EventKind::hello:
            return on_hello(std::get<wire::SealedHello>(std::get<event::PacketArrived>(event).packet));
        case EventKind::cookie_issued:
            return on_cookie_issued(std::get<Issuing>(state_), std::get<event::CookieIssued>(event), now);
        case EventKind::hello_answered:
            return on_hello_answered(std::get<Answering>(state_),
                                     std::get<event::HelloAnswered>(event).answer, now);
        case EventKind::other_slot:
            return on_other_slot(std::get<Answering>(state_), std::get<event::OtherSlot>(event).slot);
        case EventKind::vouch:
            return on_vouch(std::get<Accepting>(state_),
                            std::get<wire::SealedVouch>(std::get<event::PacketArrived>(event).packet));
        case EventKind::cookie_redeemed:
            return on_cookie_redeemed(std::get<Redeeming>(state_),
                                      std::get<event::CookieRedeemed>(event).contents, now);
        case EventKind::vouch_is_good: {
            Authorising next{std::move(std::get<Checking>(state_).shared), std::get<Checking>(state_).client};
            Actions out{action::Authorise{next.client}};
            state_ = std::move(next);
            deadline_.reset();
            return out;
        }
        case EventKind::authorised: {
            auto& state = std::get<Authorising>(state_);
            auto session = session::curve_tun::Session::create(session::Role::server, state.shared);
            if (!session) return close(local_fault(session.error()));
            Actions out{action::Established{std::move(*session), state.client, slot_}};
            state_ = Connected{};
            return out;
        }
        default: return close(undeclared(kind_of(event)));
    }
}

Actions Server::on_hello(const wire::SealedHello& hello) {
    if (hello.number != wire::kHelloNumber) return close(Errc::wrong_number);  // PROTOCOL 4.3
    state_ = Issuing{hello, false};
    return {action::IssueCookie{hello.client_short, slot_}};
}

Actions Server::on_cookie_issued(Issuing& state, const event::CookieIssued& issued, Instant now) {
    const auto& hello = state.hello;
    vault::AnswerHello request{
        slot_, to_array(hello.client_short.bytes()), wire::number_bytes(hello.number), hello.box.bytes, {}};
    serialise(wire::CookieBody{issued.server_short, issued.cookie}, request.payload);
    state_ = Answering{Issuing(state), nonce_of(issued.cookie)};
    deadline_ = now + timeouts_.vault;
    return {action::AskVault{request}};
}

Actions Server::on_hello_answered(Answering& state, const vault::HelloAnswer& answer, Instant now) {
    state_ = Accepting{state.issued.hello.client_short, state.cookie_nonce};
    deadline_ = now + timeouts_.vouch;
    return {send(wire::SealedCookie{answer.nonce, {answer.box}})};
}

// The cookie is bound to the slot, so there must be another one, with a key pair of its own.
Actions Server::on_other_slot(const Answering& state, vault::KeySlot slot) {
    if (state.issued.again || slot == slot_) return close(Errc::hello_refused);
    slot_ = slot;
    const Issuing next{state.issued.hello, true};
    state_ = next;
    return {action::IssueCookie{next.hello.client_short, slot_}};
}

Actions Server::on_vouch(Accepting& state, const wire::SealedVouch& vouch) {
    if (vouch.number != wire::kVouchNumber) return close(Errc::wrong_number);  // PROTOCOL 4.5
    if (nonce_of(vouch.cookie) != state.cookie_nonce)
        return close(Errc::cookie_not_ours);  // one vouch, one cookie
    state_ = Redeeming{state.client_short, vouch};
    return {action::RedeemCookie{vouch.cookie, slot_}};
}

Actions Server::on_cookie_redeemed(Redeeming& state, const crypto::CookieContents& contents, Instant now) {
    if (contents.client_short != state.client_short) return close(Errc::cookie_mismatch);
    auto shared = crypto::agree(contents.server_short, contents.client_short);
    if (!shared) return close(local_fault(shared.error()));
    ByteArray<wire::kVouchBodySize> plain{};
    const auto nonce =
        crypto::Nonce::make(crypto::ShortPurpose::initiate, wire::number_bytes(state.vouch.number));
    if (!crypto::open(*shared, nonce, state.vouch.box.bytes, plain)) return close(Errc::vouch_does_not_open);
    const auto body = wire::parse_vouch_body(plain);
    if (!body) return close(body.error());
    const vault::OpenVouch request{slot_, to_array(body->client.bytes()), body->nonce, body->vouch.bytes,
                                   to_array(state.client_short.bytes())};
    state_ = Checking{std::move(*shared), body->client};
    deadline_ = now + timeouts_.vault;
    return {action::AskVault{request}};
}

Actions Server::close(Error why) {
    state_ = Closed{};
    deadline_.reset();
    return {action::Close{std::move(why)}};
}

Error Server::timeout_reason() const noexcept {
    switch (state()) {
        case ServerState::ready: return Errc::hello_timeout;
        case ServerState::accepting: return Errc::vouch_timeout;
        default: return Errc::vault_timeout;
    }
}

}  // namespace curvegate::handshake::curve_tun
