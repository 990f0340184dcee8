// A whole handshake and a message with the core and nothing else: no clock, no randomness, no socket and no
// thread is linked in. tests/layering/check.sh looks at what this program's archives ask of the system.

#include "handshake/curve_tun_client.hpp"
#include "handshake/curve_tun_server.hpp"
#include "vault/service.hpp"

#include <cstdlib>

namespace {

using namespace curvegate;
namespace fsm = handshake::curve_tun;
namespace event = handshake::event;
namespace action = handshake::action;
namespace packets = wire::curve_tun;

/// Not random at all: what is passed in is what the core uses.
class Counted final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (Byte& byte : out) byte = static_cast<Byte>(state_ = state_ * 75 + 74);
    }

  private:
    std::uint32_t state_ = 1;
};

class OneNonce final : public vault::NonceSource {
    Result<crypto::LongTermNonce> next() override { return crypto::LongTermNonce{{1, 2, 3}}; }
};
class TrustsAll final : public vault::TrustedServers {
    bool is_trusted(const crypto::PublicKey&, WallTime) override { return true; }
};

vault::LongTermKey long_term(vault::KeyRole role, crypto::SecretPool& pool, RandomSource& random) {
    auto secret = crypto::LongTermSecret::random(pool, random);
    return {role, *public_key_of(*secret), std::move(*secret)};
}

template <class Packet>
Packet packet_of(const handshake::Actions& actions) {
    return std::get<Packet>(*packets::parse_packet(std::get<action::Send>(actions[0]).packet()));
}
const vault::RequestBody& question(const handshake::Actions& actions) {
    return std::get<action::AskVault>(actions[0]).request;
}

bool shake_hands_and_speak() {
    constexpr Instant now{};
    Counted random;
    OneNonce nonces;
    TrustsAll trusted;
    const auto pool = std::move(*crypto::SecretPool::create(crypto::Locking::attempt, 1'000));
    auto server_key = long_term(vault::KeyRole::server, *pool, random);
    const auto server_public = server_key.public_key;
    vault::Service vault(vault::Service::Key{std::move(server_key), &nonces},
                         vault::Service::Key{long_term(vault::KeyRole::client, *pool, random), &nonces},
                         trusted);
    const auto ask = [&](const handshake::Actions& actions) {
        return vault.handle({vault::RequestId{1}, question(actions)}, now, {}).body;
    };
    auto keeper = *cookie::Keeper::create(*pool, random, now);
    const cookie::Binding binding{cookie::Carrier::tcp, 0, {}};
    fsm::Server server(vault::KeySlot::server, {}, now);
    fsm::Client client(server_public, {}, now + std::chrono::seconds(10));

    auto short_keys = *crypto::EphemeralKeyPair::generate(*pool, random);
    const auto client_short = short_keys.public_key;
    const auto hello = client.handle(event::Start{std::move(short_keys)}, now);
    (void)server.handle(event::PacketArrived{packet_of<packets::SealedHello>(hello)}, now);
    const auto server_keys = *crypto::EphemeralKeyPair::generate(*pool, random);
    const auto cookie = *keeper.issue(binding, client_short, server_keys.secret, random, now);
    const auto answer = ask(server.handle(event::CookieIssued{server_keys.public_key, cookie}, now));
    const auto welcome = server.handle(event::HelloAnswered{std::get<vault::HelloAnswer>(answer)}, now);
    const auto made =
        ask(client.handle(event::PacketArrived{packet_of<packets::SealedCookie>(welcome)}, now));
    const auto vouch = client.handle(event::VouchMade{std::get<vault::Vouch>(made)}, now);
    (void)server.handle(event::PacketArrived{packet_of<packets::SealedVouch>(vouch)}, now);
    const auto good = ask(server.handle(event::CookieRedeemed{*keeper.redeem(cookie, binding, now)}, now));
    if (!std::holds_alternative<vault::VouchIsGood>(good)) return false;
    (void)server.handle(event::VouchIsGood{}, now);
    auto above = server.handle(event::Authorised{}, now);
    auto below = client.handle(event::Written{}, now);

    ByteArray<session::curve_tun::kFrameOverhead + 1> frame{};
    frame.back() = 42;
    if (!std::get<action::Established>(below[0]).session.seal_frame(frame)) return false;
    const auto text =
        std::get<action::Established>(above[0]).session.open_packet(MutableBytes(frame).subspan(2));
    return text && text->size() == 1 && text->front() == 42;
}

}  // namespace

int main() {
    return crypto::initialise() && shake_hands_and_speak() ? EXIT_SUCCESS : EXIT_FAILURE;
}
