#pragma once

#include "support/ends.hpp"

#include <stdexcept>

namespace curvegate::test {

/// A client that has everything an honest one has and makes its vouch by hand: what it puts into its correct
/// outer box is not always right. The server waits for the vouch when this is made.
class Liar {
  public:
    explicit Liar(World& world) : keys(world.fresh_keys()), server(world.server()), world_(&world) {
        fsm::Client honest(world.server_vault.key, world.timeouts, kStart + std::chrono::seconds(10));
        auto copy = key_pair_of(to_array(FixedBytes<32>(crypto::SecretBytes::of(keys.secret))));
        const auto hello = honest.handle(event::Start{std::move(copy)}, kStart);
        server.receive(framed(std::get<action::Send>(hello[0]).packet()), kStart);
        const auto answer =
            std::get<packets::SealedCookie>(*packets::parse_packet(Bytes(server.outgoing).subspan(2)));
        server.outgoing.clear();
        const auto with_server = *agree(keys.secret, world.server_vault.key);
        const auto nonce = crypto::Nonce::make(crypto::LongPurpose::cookie, answer.nonce);
        ByteArray<packets::kCookieBodySize> plain{};
        if (!crypto::open(with_server, nonce, answer.box.bytes, plain))
            throw std::logic_error("the server's cookie packet does not open");
        const auto body = *packets::parse_cookie_body(plain);
        shared.emplace(std::move(*agree(keys.secret, body.server_short)));
        cookie_ = body.cookie;
    }

    crypto::EphemeralKeyPair keys;
    ServerEnd server;
    std::optional<crypto::SharedKey> shared;

    /// V as `identity` makes it.
    [[nodiscard]] packets::VouchBody vouched_by(TestVault& identity,
                                                const crypto::PublicKey& client_short) const {
        const vault::MakeVouch request{to_array(world_->server_vault.key.bytes()),
                                       to_array(client_short.bytes())};
        const auto made = std::get<vault::Vouch>(identity.ask(request));
        return {identity.key, made.nonce, {made.vouch}};
    }
    /// Sends this in a correct outer box. Gives why the server closed; nothing: it let us in.
    [[nodiscard]] std::optional<Error> vouch(const packets::VouchBody& body) {
        ByteArray<packets::kVouchBodySize> plain{};
        serialise(body, plain);
        return vouch_bytes(plain);
    }
    [[nodiscard]] std::optional<Error> vouch_bytes(FixedBytes<packets::kVouchBodySize> plain) {
        server.receive(framed(vouch_packet(plain)), kStart);
        return server.closed;
    }
    [[nodiscard]] Buffer vouch_packet(FixedBytes<packets::kVouchBodySize> plain) const {
        packets::SealedVouch packet{cookie_, packets::kVouchNumber, {}};
        const auto nonce =
            crypto::Nonce::make(crypto::ShortPurpose::initiate, packets::number_bytes(packet.number));
        crypto::seal(*shared, nonce, plain, packet.box.bytes);
        Buffer bytes(packets::kVouchSize);
        serialise(packet, MutableBytes(bytes).first<packets::kVouchSize>());
        return bytes;
    }

  private:
    World* world_;
    packets::Cookie cookie_;
};

}  // namespace curvegate::test
