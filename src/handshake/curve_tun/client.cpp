#include "handshake/curve_tun/client.hpp"

#include "crypto/box.hpp"
#include "handshake/steps.hpp"

namespace curvegate::handshake::curve_tun {

namespace wire = wire::curve_tun;

std::string_view name_of(ClientState state) noexcept {
    constexpr std::array<std::string_view, kClientStates> names = {"ready",   "initiating", "vouching",
                                                                   "vouched", "connected",  "closed"};
    return names[static_cast<std::size_t>(state)];
}

Client::Client(const crypto::PublicKey& server, const Timeouts& timeouts, Instant deadline) noexcept
    : Machine(deadline), server_(server), timeouts_(timeouts), limit_(deadline), state_(Ready{}) {}

std::size_t Client::expected_packet_size() const noexcept {
    return state() == ClientState::initiating ? wire::kCookiePacketSize : 0;
}

Actions Client::on_start(Ready&, event::Start& start, Instant) {
    auto with_server = crypto::agree(start.keys.secret, server_);
    if (!with_server) return close(local_fault(with_server.error()));
    crypto::SendCounter counter(wire::kHelloNumber);
    auto number = counter.next();
    wire::SealedHello hello{start.keys.public_key, number->number(), {}};
    hello.box = seal_hello(*with_server, std::move(*number), wire::number_bytes);
    state_ = Initiating{std::move(start.keys), std::move(*with_server), std::move(counter)};
    return {send(hello)};
}

Actions Client::on_cookie(Initiating& state, event::CookieArrived& arrived, Instant now) {
    const auto body = open_cookie(state.with_server, arrived.packet.nonce, arrived.packet.box);
    if (!body) return close(body.error());
    auto shared = crypto::agree(state.keys.secret, body->server_short);
    if (!shared) return close(local_fault(shared.error()));
    const auto request = ask_for_vouch(server_, state.keys.public_key);
    state_ = Vouching{std::move(*shared), body->cookie, std::move(state.counter)};
    deadline_ = std::min(now + timeouts_.vault, limit_);
    return {action::AskVault{request}};
}

Actions Client::on_vouch_made(Vouching& state, event::VouchMade& made, Instant) {
    const auto body = introduce(made.vouch);
    if (!body) return close(body.error());
    ByteArray<wire::kVouchBodySize> plain{};
    serialise(*body, plain);
    auto number = state.counter.next();
    wire::SealedVouch vouch{state.cookie, number->number(), {}};
    const auto nonce =
        crypto::Nonce::make(crypto::ShortPurpose::initiate, std::move(*number), wire::number_bytes);
    crypto::seal(state.shared, nonce, plain, vouch.box.bytes);
    state_ = Vouched{std::move(state.shared), std::move(state.counter)};
    deadline_ = limit_;
    return {send(vouch)};
}

Actions Client::on_vault_silent(Vouching&, event::DeadlineReached&, Instant now) {
    return close(now < limit_ ? Errc::vault_timeout : Errc::connect_timeout);
}

Actions Client::on_written(Vouched& state, event::Written&, Instant) {
    auto session =
        session::curve_tun::Session::create(session::Role::client, state.shared, std::move(state.counter));
    if (!session) return close(local_fault(session.error()));
    state_ = Connected{};
    deadline_.reset();
    return {action::Established{std::move(*session), server_}};
}

}  // namespace curvegate::handshake::curve_tun
