#include "handshake/curve_tun/client.hpp"

#include "crypto/box.hpp"

namespace curvegate::handshake::curve_tun {
namespace {

namespace wire = wire::curve_tun;

constexpr ByteArray<wire::kHelloPlainSize> kHelloPlain{};  // PROTOCOL 4.3: 64 zeros

}  // namespace

std::string_view name_of(ClientState state) noexcept {
    constexpr std::array<std::string_view, kClientStates> names = {"ready",   "initiating", "vouching",
                                                                   "vouched", "connected",  "closed"};
    return names[static_cast<std::size_t>(state)];
}

Client::Client(const crypto::PublicKey& server, const Timeouts& timeouts, Instant deadline) noexcept
    : server_(server), timeouts_(timeouts), limit_(deadline), deadline_(deadline), state_(Ready{}) {}

ClientState Client::state() const noexcept {
    return static_cast<ClientState>(state_.index());
}

std::size_t Client::expected_packet_size() const noexcept {
    return state() == ClientState::initiating ? wire::kCookiePacketSize : 0;
}

Actions Client::handle(Event&& event, Instant now) {
    const EventKind kind = kind_of(event);
    const ClientState from = state();
    if (from == ClientState::closed) return {};
    switch (kind) {
        case EventKind::packet_refused: return close(std::get<event::PacketRefused>(event).why);
        case EventKind::vault_refused: return close(meaning_of(std::get<event::VaultRefused>(event).status));
        case EventKind::vault_lost:
            return close({Errc::vault_unavailable, std::get<event::VaultLost>(event).why});
        case EventKind::peer_closed: return close(Errc::peer_closed);
        case EventKind::deadline_reached:
            return close(from == ClientState::vouching && now < limit_ ? Errc::vault_timeout
                                                                       : Errc::connect_timeout);
        case EventKind::stop: return close(Errc::stopped);
        default: break;
    }
    if (find_transition<ClientState>(kClientTable, from, kind) == nullptr) return close(undeclared(kind));
    return step(std::move(event), now);
}

Actions Client::step(Event&& event, Instant now) {
    switch (kind_of(event)) {
        case EventKind::start: return on_start(std::move(std::get<event::Start>(event).keys));
        case EventKind::cookie:
            return on_cookie(std::get<Initiating>(state_),
                             std::get<wire::SealedCookie>(std::get<event::PacketArrived>(event).packet), now);
        case EventKind::vouch_made:
            return on_vouch_made(std::get<Vouching>(state_), std::get<event::VouchMade>(event).vouch);
        case EventKind::written: {
            auto session =
                session::curve_tun::Session::create(session::Role::client, std::get<Vouched>(state_).shared);
            if (!session) return close(local_fault(session.error()));
            state_ = Connected{};
            deadline_.reset();
            return {action::Established{std::move(*session), server_}};
        }
        default: return close(undeclared(kind_of(event)));
    }
}

Actions Client::on_start(crypto::EphemeralKeyPair&& keys) {
    auto with_server = crypto::agree(keys.secret, server_);
    if (!with_server) return close(local_fault(with_server.error()));
    wire::SealedHello hello{keys.public_key, wire::kHelloNumber, {}};
    const auto nonce = crypto::Nonce::make(crypto::ShortPurpose::hello, wire::number_bytes(hello.number));
    crypto::seal(*with_server, nonce, kHelloPlain, hello.box.bytes);
    state_ = Initiating{std::move(keys), std::move(*with_server)};
    return {send(hello)};
}

Actions Client::on_cookie(Initiating& state, const wire::SealedCookie& cookie, Instant now) {
    ByteArray<wire::kCookieBodySize> plain{};
    const auto nonce = crypto::Nonce::make(crypto::LongPurpose::cookie, cookie.nonce);
    if (!crypto::open(state.with_server, nonce, cookie.box.bytes, plain))
        return close(Errc::cookie_does_not_open);
    const auto body = wire::parse_cookie_body(plain);
    if (!body) return close(body.error());
    auto shared = crypto::agree(state.keys.secret, body->server_short);
    if (!shared) return close(local_fault(shared.error()));
    const vault::MakeVouch request{to_array(server_.bytes()), to_array(state.keys.public_key.bytes())};
    state_ = Vouching{std::move(*shared), body->cookie};
    deadline_ = std::min(now + timeouts_.vault, limit_);
    return {action::AskVault{request}};
}

Actions Client::on_vouch_made(Vouching& state, const vault::Vouch& made) {
    const auto client = crypto::PublicKey::parse(made.client);
    if (!client) return close(client.error());
    ByteArray<wire::kVouchBodySize> plain{};
    serialise(wire::VouchBody{*client, made.nonce, {made.vouch}}, plain);
    wire::SealedVouch vouch{state.cookie, wire::kVouchNumber, {}};
    const auto nonce = crypto::Nonce::make(crypto::ShortPurpose::initiate, wire::number_bytes(vouch.number));
    crypto::seal(state.shared, nonce, plain, vouch.box.bytes);
    state_ = Vouched{std::move(state.shared)};
    deadline_ = limit_;
    return {send(vouch)};
}

Actions Client::close(Error why) {
    state_ = Closed{};
    deadline_.reset();
    return {action::Close{std::move(why)}};
}

}  // namespace curvegate::handshake::curve_tun
