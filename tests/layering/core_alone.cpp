// A whole handshake and a message, of curve_tun and of CurveCP with its stream, with the core and nothing
// else: no clock, no randomness, no socket and no thread is linked in. tests/layering/check.sh looks at what
// this program's archives ask of the system.

#include "handshake/curve_tun/client.hpp"
#include "handshake/curve_tun/server.hpp"
#include "handshake/curvecp/client.hpp"
#include "handshake/curvecp/server.hpp"
#include "stream/stream.hpp"
#include "vault/service.hpp"

#include <cstdlib>

namespace {

using namespace curvegate;
constexpr Instant kNow{};

/// Not random at all: what is passed in is what the core uses.
class Counted final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (Byte& byte : out) byte = static_cast<Byte>(state_ = state_ * 75 + 74);
    }

  private:
    std::uint32_t state_ = 1;
};

/// Neither guarded nor locked.
class Heap final : public SecretPages {
    std::optional<Chunk> take() override {
        constexpr std::size_t kSize = 16'384;
        return Chunk{{new Byte[kSize]{}, kSize}, false};
    }
    void give(MutableBytes bytes) noexcept override { delete[] bytes.data(); }
};

class OneNonce final : public vault::NonceSource {
    Result<crypto::LongTermNonce> next() override { return crypto::LongTermNonce{{1, 2, 3}}; }
};
class TrustsAll final : public vault::ListedKeys {
    bool is_listed(const crypto::PublicKey&, WallTime) override { return true; }
};

vault::LongTermKey long_term(vault::KeyRole role, crypto::SecretPool& pool, RandomSource& random) {
    auto secret = crypto::LongTermSecret::random(pool, random);
    return {role, *public_key_of(*secret), std::move(*secret)};
}

/// What both wires need: the vault's core with a key for either role, and the keeper of cookies.
class Core {
  public:
    Counted random;
    Heap pages;
    std::unique_ptr<crypto::SecretPool> pool =
        std::move(*crypto::SecretPool::create(pages, crypto::Locking::attempt, 1'000));
    cookie::Keeper keeper = *cookie::Keeper::create(*pool, random, kNow);

    [[nodiscard]] const crypto::PublicKey& server() const noexcept { return server_; }
    [[nodiscard]] crypto::EphemeralKeyPair fresh_keys() {
        return *crypto::EphemeralKeyPair::generate(*pool, random);
    }
    /// The answer to the question that the machine has, which is the only thing it wants.
    template <class Answer, class Actions>
    [[nodiscard]] Answer ask(const Actions& actions) {
        const auto& request = std::get<handshake::action::AskVault>(actions[0]).request;
        return std::get<Answer>(vault_.handle({vault::RequestId{1}, request}, kNow, {}).body);
    }

  private:
    OneNonce nonces_;
    TrustsAll trusted_;
    vault::LongTermKey server_key_ = long_term(vault::KeyRole::server, *pool, random);
    crypto::PublicKey server_ = server_key_.public_key;
    vault::Service vault_{vault::Service::Key{std::move(server_key_), &nonces_},
                          vault::Service::Key{long_term(vault::KeyRole::client, *pool, random), &nonces_},
                          trusted_};
};

// ---- curve_tun ----

namespace tcp {

namespace fsm = handshake::curve_tun;
namespace event = fsm::event;
namespace action = fsm::action;
namespace packets = wire::curve_tun;

template <class Packet>
Packet packet_of(const fsm::Actions& actions) {
    return std::get<Packet>(*packets::parse_packet(std::get<action::Send>(actions[0]).packet()));
}

bool shake_hands_and_speak(Core& core) {
    const cookie::Binding binding{cookie::Wire::curve_tun, 0, {}};
    fsm::Server server(vault::KeySlot::server, {}, kNow);
    fsm::Client client(core.server(), {}, kNow + std::chrono::seconds(10));

    auto short_keys = core.fresh_keys();
    const auto client_short = short_keys.public_key;
    const auto hello = client.handle(event::Start{std::move(short_keys)}, kNow);
    (void)server.handle(fsm::arrived(packet_of<packets::SealedHello>(hello)), kNow);
    const auto server_keys = core.fresh_keys();
    const auto cookie = *core.keeper.issue(binding, client_short, server_keys.secret, core.random, kNow);
    const auto answer = core.ask<vault::HelloAnswer>(
        server.handle(event::CookieIssued{server_keys.public_key, cookie}, kNow));
    const auto welcome = server.handle(event::HelloAnswered{answer}, kNow);
    const auto made =
        core.ask<vault::Vouch>(client.handle(fsm::arrived(packet_of<packets::SealedCookie>(welcome)), kNow));
    const auto vouch = client.handle(event::VouchMade{made}, kNow);
    (void)server.handle(fsm::arrived(packet_of<packets::SealedVouch>(vouch)), kNow);
    (void)core.ask<vault::VouchIsGood>(
        server.handle(event::CookieRedeemed{*core.keeper.redeem(cookie, binding, kNow)}, kNow));
    (void)server.handle(event::VouchIsGood{}, kNow);
    auto above = server.handle(event::Authorised{}, kNow);
    auto below = client.handle(event::Written{}, kNow);

    ByteArray<session::curve_tun::kFrameOverhead + 1> frame{};
    frame.back() = 42;
    if (!std::get<action::Established>(below[0]).session.seal_frame(frame)) return false;
    const auto text =
        std::get<action::Established>(above[0]).session.open_packet(MutableBytes(frame).subspan(2));
    return text && text->size() == 1 && text->front() == 42;
}

}  // namespace tcp

// ---- CurveCP ----

namespace udp {

namespace fsm = handshake::curvecp;
namespace event = fsm::event;
namespace action = fsm::action;
namespace packets = wire::curvecp;

const cookie::Binding kBinding{cookie::Wire::curvecp, 0, {}};

template <class Packet, class Parsed>
Packet packet_of(const fsm::Actions& actions, Parsed (*parse)(Bytes)) {
    return std::get<Packet>(*parse(std::get<action::Send>(actions[0]).packet()));
}

/// Hello, Cookie and vouch: the client may speak, the server keeps nothing.
action::Vouched greet(Core& core) {
    fsm::Server server(vault::KeySlot::server, {});
    fsm::Client client({core.server(), {}, *packets::encode_server_name("core")}, {},
                       kNow + std::chrono::seconds(10));
    const auto hello = client.handle(event::Start{core.fresh_keys(), {7}}, kNow);
    const auto issue = server.handle(
        event::HelloArrived{packet_of<packets::SealedHello>(hello, packets::parse_to_server)}, kNow);
    const auto keys = core.fresh_keys();
    const auto cookie = *core.keeper.issue(kBinding, std::get<action::IssueCookie>(issue[0]).client_short,
                                           keys.secret, core.random, kNow);
    const auto answer =
        core.ask<vault::HelloAnswer>(server.handle(event::CookieIssued{keys.public_key, cookie}, kNow));
    const auto welcome = server.handle(event::HelloAnswered{answer}, kNow);
    const auto made = core.ask<vault::Vouch>(client.handle(
        event::CookieArrived{packet_of<packets::SealedCookie>(welcome, packets::parse_to_client)}, kNow));
    auto vouched = client.handle(event::VouchMade{made}, kNow);
    return std::move(std::get<action::Vouched>(vouched[0]));
}

action::Established let_in(Core& core, Bytes packet) {
    fsm::Server server(vault::KeySlot::server, {9});
    const auto header = std::get<packets::InitiateHeader>(*packets::parse_to_server(packet));
    const auto redeem = server.handle(event::InitiateArrived{header, packet}, kNow);
    const auto& cookie = std::get<action::RedeemCookie>(redeem[0]).cookie;
    (void)core.ask<vault::VouchIsGood>(
        server.handle(event::CookieRedeemed{*core.keeper.redeem(cookie, kBinding, kNow)}, kNow));
    (void)server.handle(event::VouchIsGood{}, kNow);
    const auto claim = server.handle(event::Authorised{}, kNow);
    if (!core.keeper.claim(std::get<action::ClaimCookie>(claim[0]).ticket)) std::exit(EXIT_FAILURE);
    auto established = server.handle(event::CookieClaimed{}, kNow);
    return std::move(std::get<action::Established>(established[0]));
}

bool shake_hands_and_speak(Core& core) {
    auto client = greet(core);
    stream::Stream near({}, kNow);
    near.limit_blocks(packets::kFirstBlock);
    near.prepare()[0] = 42;
    near.commit(1);
    near.finish();
    ByteArray<packets::kMaxPacket> packet{};
    const auto first = MutableBytes(packet).first(
        packets::kInitiateOverhead +
        near.next_message(MutableBytes(packet).subspan(packets::kInitiateOverhead), kNow));
    if (!client.session.seal_initiate(client.introduction, first)) return false;

    auto server = let_in(core, first);
    stream::Stream far({}, kNow);
    const auto heard = packets::parse_message(Bytes(server.message).first(server.message_size));
    if (!heard || !far.receive(*heard, kNow)) return false;
    if (far.readable().size() != 1 || far.readable().front() != 42) return false;
    const auto reply = MutableBytes(packet).first(
        packets::kServerOverhead +
        far.next_message(MutableBytes(packet).subspan(packets::kServerOverhead, packets::kMaxMessage), kNow));
    if (!server.session.seal_message(reply)) return false;
    const auto header = std::get<packets::ServerMessageHeader>(*packets::parse_to_client(reply));
    const auto acknowledgment = client.session.open_message(header.number, reply);
    if (!acknowledgment) return false;
    const auto told = packets::parse_message(acknowledgment->message);
    return told && near.receive(*told, kNow) && near.outgoing_done();
}

}  // namespace udp
}  // namespace

int main() {
    if (!crypto::initialise()) return EXIT_FAILURE;
    Core core;
    return tcp::shake_hands_and_speak(core) && udp::shake_hands_and_speak(core) ? EXIT_SUCCESS : EXIT_FAILURE;
}
