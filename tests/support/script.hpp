#pragma once

#include "support/ends.hpp"

#include <array>
#include <stdexcept>

/// One valid handshake as a list of events, so that either machine can be taken to any state and be given any
/// event there, each with content that fits this handshake.
namespace curvegate::test {

class Script {
  public:
    Script() {
        fsm::Client client = fresh_client();
        hello_ = packet<packets::SealedHello>(client.handle(event::Start{client_keys()}, kStart));
        const auto issued = *world_.keeper.issue(kBinding, client_keys().public_key, server_keys().secret,
                                                 world_.random, kStart);
        cookie_ = issued;
        vault::AnswerHello request{vault::KeySlot::server,
                                   to_array(hello_->client_short.bytes()),
                                   packets::number_bytes(hello_->number),
                                   hello_->box.bytes,
                                   {}};
        serialise(packets::CookieBody{server_keys().public_key, cookie_}, request.payload);
        answer_ = std::get<vault::HelloAnswer>(world_.server_vault.ask(request));
        const auto ask = client.handle(fsm::arrived(cookie_packet()), kStart);
        const auto& made = std::get<vault::MakeVouch>(std::get<action::AskVault>(ask[0]).request);
        vouch_made_ = std::get<vault::Vouch>(world_.client_vault.ask(made));
        vouch_ = packet<packets::SealedVouch>(client.handle(event::VouchMade{vouch_made_}, kStart));
    }

    [[nodiscard]] fsm::Server fresh_server() const {
        return {vault::KeySlot::server, world_.timeouts, kStart};
    }
    [[nodiscard]] fsm::Client fresh_client() const {
        return {world_.server_vault.key, world_.timeouts, kStart + std::chrono::seconds(10)};
    }

    /// The machine after the first events of a handshake that goes well, up to `state`.
    [[nodiscard]] fsm::Server server_in(fsm::ServerState state) {
        auto machine = fresh_server();
        for (const auto kind : kServerWay) {
            if (machine.state() == state) break;
            (void)machine.handle(event(kind), kStart);
        }
        return machine;
    }
    [[nodiscard]] fsm::Client client_in(fsm::ClientState state) {
        auto machine = fresh_client();
        for (const auto kind : kClientWay) {
            if (machine.state() == state) break;
            (void)machine.handle(event(kind), kStart);
        }
        return machine;
    }

    [[nodiscard]] Event event(EventKind kind) {
        switch (kind) {
            case EventKind::start: return event::Start{client_keys()};
            case EventKind::hello: return fsm::arrived(*hello_);
            case EventKind::cookie: return fsm::arrived(cookie_packet());
            case EventKind::vouch: return fsm::arrived(*vouch_);
            case EventKind::message: return fsm::arrived(packets::MessageHeader{{2}});
            case EventKind::packet_refused: return event::PacketRefused{wire::Errc::wrong_length};
            case EventKind::cookie_issued: return event::CookieIssued{server_keys().public_key, cookie_};
            case EventKind::cookie_redeemed:
                return event::CookieRedeemed{*world_.keeper.redeem(cookie_, kBinding, kStart)};
            case EventKind::cookie_refused: return event::CookieRefused{cookie::Errc::does_not_open};
            case EventKind::not_possible: return event::NotPossible{crypto::Errc::secrets_full};
            case EventKind::hello_answered: return event::HelloAnswered{answer_};
            case EventKind::other_slot: return event::OtherSlot{vault::KeySlot{5}};
            case EventKind::vouch_made: return event::VouchMade{vouch_made_};
            case EventKind::vouch_is_good: return event::VouchIsGood{};
            case EventKind::vault_refused: return event::VaultRefused{vault::Status::over_rate};
            case EventKind::vault_lost: return event::VaultLost{"it ended"};
            case EventKind::authorised: return event::Authorised{};
            case EventKind::not_authorised: return event::NotAuthorised{"not in known_hosts"};
            case EventKind::written: return event::Written{};
            case EventKind::peer_closed: return event::PeerClosed{};
            case EventKind::deadline_reached: return event::DeadlineReached{};
            case EventKind::stop: return event::Stop{};
            case EventKind::cookie_claimed: break;  // CurveCP's alone
        }
        throw std::logic_error("no event of curve_tun");
    }

    [[nodiscard]] const packets::SealedHello& hello() const { return *hello_; }
    [[nodiscard]] const packets::SealedVouch& vouch() const { return *vouch_; }
    [[nodiscard]] const packets::Cookie& cookie() const { return cookie_; }
    [[nodiscard]] const vault::Vouch& vouch_made() const { return vouch_made_; }
    [[nodiscard]] packets::SealedCookie cookie_packet() const { return {answer_.nonce, {answer_.box}}; }
    [[nodiscard]] static crypto::EphemeralKeyPair client_keys() { return key_pair_of(secret_bytes(11)); }
    [[nodiscard]] static crypto::EphemeralKeyPair server_keys() { return key_pair_of(secret_bytes(12)); }
    [[nodiscard]] World& world() { return world_; }

  private:
    static constexpr std::array kServerWay = {
        EventKind::hello,           EventKind::cookie_issued, EventKind::hello_answered, EventKind::vouch,
        EventKind::cookie_redeemed, EventKind::vouch_is_good, EventKind::authorised,     EventKind::stop};
    static constexpr std::array kClientWay = {EventKind::start, EventKind::cookie, EventKind::vouch_made,
                                              EventKind::written, EventKind::stop};
    inline static const cookie::Binding kBinding{cookie::Wire::curve_tun, 0,
                                                 IpAddress::from_v4(ByteArray<4>{127, 0, 0, 1})};

    template <class Packet>
    static Packet packet(const Actions& actions) {
        return std::get<Packet>(*packets::parse_packet(std::get<action::Send>(actions[0]).packet()));
    }

    World world_;
    std::optional<packets::SealedHello> hello_;
    packets::Cookie cookie_;
    vault::HelloAnswer answer_;
    vault::Vouch vouch_made_;
    std::optional<packets::SealedVouch> vouch_;
};

}  // namespace curvegate::test
