#include "stream/stream.hpp"
#include "support/curvecp.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// What bench/instructions counts: one scenario, so many units of it. All is repeatable: keys and randomness
/// are seeded, time is passed in. Preparations do not depend on the count, so the difference between two
/// counts is the units' own. What goes wrong throws, and ends the program.
namespace curvegate {
namespace {

using namespace std::chrono_literals;
using session::Role;
using test::Buffer;
using test::kStart;

/// A quarter of it, too, is a whole number of the receive window's words.
constexpr std::size_t kPackets = 256;

// ---- sessions ----

namespace tun {

using Session = session::curve_tun::Session;
using session::curve_tun::kFrameOverhead;

Session session(Role own) {
    return Session::create(own, test::secret_number<crypto::SharedKey>(1)).value();
}

void seal(std::size_t count, std::size_t size) {
    auto from = session(Role::client);
    Buffer frame(kFrameOverhead + size);
    for (std::size_t i = 0; i < count; ++i) from.seal_frame(frame).value();
}

void open(std::size_t count, std::size_t size) {
    auto from = session(Role::client);
    std::vector<Buffer> frames(kPackets, Buffer(kFrameOverhead + size));
    for (auto& frame : frames) from.seal_frame(frame).value();
    auto to = session(Role::server);
    for (std::size_t i = 0; i < count; ++i)
        (void)to.open_packet(MutableBytes(frames[i]).subspan(wire::curve_tun::kFrameHeaderSize)).value();
}

}  // namespace tun

namespace udp {

using Session = session::curvecp::Session;
namespace packets = wire::curvecp;

Session session(Role own) {
    return Session::create(own, test::secret_number<crypto::SharedKey>(1), test::udp::kExtensions,
                           {to_array(test::udp::Script::client_keys().public_key.bytes())},
                           crypto::SendCounter({1}))
        .value();
}

void seal(std::size_t count, std::size_t size) {
    auto from = session(Role::client);
    Buffer packet(from.overhead() + size);
    for (std::size_t i = 0; i < count; ++i) from.seal_message(packet).value();
}

void open(std::size_t count, std::size_t size) {
    auto from = session(Role::client);
    std::vector<Buffer> sealed(kPackets, Buffer(from.overhead() + size));
    for (auto& packet : sealed) from.seal_message(packet).value();
    auto to = session(Role::server);
    for (std::size_t i = 0; i < count; ++i) {
        const auto parsed = packets::parse_to_server(sealed[i]).value();
        (void)to.open_message(std::get<packets::ClientMessageHeader>(parsed).number, sealed[i]).value();
    }
}

}  // namespace udp

// ---- handshakes: both machines, keeper and both vaults' core, with nothing between them ----

constexpr std::size_t kHandshakes = 32;

/// Eight bytes a step, so that making them hardly counts.
class Random final : public RandomSource {
  public:
    void fill(MutableBytes out) override {
        for (; !out.empty(); out = out.subspan(std::min(out.size(), sizeof(std::uint64_t)))) {
            const std::uint64_t word = words_.next();
            std::memcpy(out.data(), &word, std::min(out.size(), sizeof(word)));
        }
    }

  private:
    test::SeededRandom words_{1};
};

struct World : test::World {
    Random quick_random;

    crypto::EphemeralKeyPair fresh_keys() {
        return crypto::EphemeralKeyPair::generate(test::pool(), quick_random).value();
    }
    /// The server's short-term key and the cookie that holds it.
    handshake::event::CookieIssued issue(const cookie::Binding& binding,
                                         const handshake::action::IssueCookie& asked) {
        const auto keys = fresh_keys();
        return {keys.public_key,
                keeper.issue(binding, asked.client_short, keys.secret, quick_random, kStart).value()};
    }
};

/// What a machine wants after an event; it must be this.
template <class Wanted, class Machine, class Event>
Wanted step(Machine& machine, Event&& event) {
    auto actions = machine.handle(std::forward<Event>(event), kStart);
    return std::get<Wanted>(std::move(actions[0]));
}

namespace tun {

namespace fsm = handshake::curve_tun;
namespace event = fsm::event;
namespace action = fsm::action;

const cookie::Binding kBinding{cookie::Wire::curve_tun, 0, IpAddress::from_v4(ByteArray<4>{127, 0, 0, 1})};

fsm::Event arrived(const action::Send& sent) {
    return fsm::arrived(wire::curve_tun::parse_packet(sent.packet()).value());
}

fsm::Event answer(test::TestVault& vault, const action::AskVault& asked) {
    return handshake::event_of<fsm::Event>(vault.ask(asked.request));
}

void shake_hands(World& world) {
    fsm::Client client(world.server_vault.key, world.timeouts, kStart + 10s);
    fsm::Server server(vault::KeySlot::server, world.timeouts, kStart);

    const auto hello = step<action::Send>(client, event::Start{world.fresh_keys()});
    const auto to_issue = step<action::IssueCookie>(server, arrived(hello));
    const auto to_answer = step<action::AskVault>(server, world.issue(kBinding, to_issue));
    const auto cookie = step<action::Send>(server, answer(world.server_vault, to_answer));

    const auto to_vouch = step<action::AskVault>(client, arrived(cookie));
    const auto vouch = step<action::Send>(client, answer(world.client_vault, to_vouch));
    (void)step<action::Established>(client, event::Written{});

    const auto to_redeem = step<action::RedeemCookie>(server, arrived(vouch));
    const auto to_check = step<action::AskVault>(
        server, event::CookieRedeemed(world.keeper.redeem(to_redeem.cookie, kBinding, kStart).value()));
    (void)step<action::Authorise>(server, answer(world.server_vault, to_check));
    (void)step<action::Established>(server, event::Authorised{});
}

}  // namespace tun

namespace udp {

namespace fsm = handshake::curvecp;
namespace event = fsm::event;
namespace action = fsm::action;
using test::udp::kBinding;

fsm::Event answer(test::TestVault& vault, const action::AskVault& asked) {
    return handshake::event_of<fsm::Event>(vault.ask(asked.request));
}

/// Up to the server's first Message; the client's goes in the Initiate.
void shake_hands(World& world) {
    fsm::Client client(test::udp::destination(world), world.timeouts, kStart + 10s);
    const auto hello = step<action::Send>(client, event::Start{world.fresh_keys(), test::udp::kClientFirst});

    fsm::Server greeter(vault::KeySlot::server, test::udp::kServerFirst);
    const auto seen = packets::parse_to_server(hello.packet()).value();
    const auto to_issue =
        step<action::IssueCookie>(greeter, event::HelloArrived{std::get<packets::SealedHello>(seen)});
    const auto to_answer = step<action::AskVault>(greeter, world.issue(kBinding, to_issue));
    const auto cookie = step<action::Send>(greeter, answer(world.server_vault, to_answer));

    const auto come = packets::parse_to_client(cookie.packet()).value();
    const auto to_vouch =
        step<action::AskVault>(client, event::CookieArrived{std::get<packets::SealedCookie>(come)});
    auto vouched = step<action::Vouched>(client, answer(world.client_vault, to_vouch));
    ByteArray<packets::kInitiateOverhead + 64> initiate{};
    vouched.session.seal_initiate(vouched.introduction, initiate).value();

    fsm::Server server(vault::KeySlot::server, test::udp::kServerFirst);
    const auto header = packets::parse_to_server(initiate).value();
    const auto to_redeem = step<action::RedeemCookie>(
        server, event::InitiateArrived{std::get<packets::InitiateHeader>(header), initiate});
    const auto to_check = step<action::AskVault>(
        server, event::CookieRedeemed(world.keeper.redeem(to_redeem.cookie, kBinding, kStart).value()));
    (void)step<action::Authorise>(server, answer(world.server_vault, to_check));
    const auto to_claim = step<action::ClaimCookie>(server, event::Authorised{});
    if (!world.keeper.claim(to_claim.ticket)) throw std::logic_error("the cookie was claimed before");
    auto established = step<action::Established>(server, event::CookieClaimed{});

    ByteArray<packets::kServerOverhead + 64> message{};
    established.session.seal_message(message).value();
    const auto first = packets::parse_to_client(message).value();
    (void)vouched.session.open_message(std::get<packets::ServerMessageHeader>(first).number, message).value();
    (void)step<std::monostate>(client, event::Confirmed{});
}

}  // namespace udp

void repeat(std::size_t count, void (*shake_hands)(World&)) {
    World world;
    for (std::size_t i = 0; i < count; ++i) shake_hands(world);
}

// ---- streams ----

constexpr std::size_t kBlocks = 16'384;
constexpr std::size_t kQuestions = 1'024;

/// Two ends 50 us apart that hand each other their messages without boxes, as many at once as an actor does.
class Pair {
  public:
    stream::Stream left{{.off_loopback = false}, kStart};
    stream::Stream right{{.off_loopback = false}, kStart};

    /// What waits goes to the right, then what waits there to the left.
    void exchange() {
        carry(left, right);
        carry(right, left);
    }

  private:
    void carry(stream::Stream& from, stream::Stream& to) {
        std::size_t count = 0;
        while (count < messages_.size() && (sizes_[count] = from.next_message(messages_[count], now_)) != 0)
            ++count;
        now_ += 50us;
        for (std::size_t i = 0; i < count; ++i)
            to.receive(*wire::curvecp::parse_message(Bytes(messages_[i]).first(sizes_[i])), now_).value();
        to.consume(to.readable().size());
    }

    Instant now_ = kStart;
    std::array<ByteArray<wire::curvecp::kMaxMessage>, 32> messages_;
    std::array<std::size_t, 32> sizes_{};
};

/// One direction at full speed, until all is acknowledged.
void bulk(std::size_t blocks) {
    Pair pair;
    const std::size_t whole = blocks * wire::curvecp::kMaxBlock;
    while (pair.left.acknowledged() < whole) {
        while (const std::size_t rest = whole - pair.left.sent()) {
            const std::size_t room = pair.left.prepare().size();
            if (room == 0) break;
            pair.left.commit(std::min(room, rest));
        }
        pair.exchange();
    }
}

/// 64 bytes there and 64 back.
void question_and_answer(std::size_t count) {
    Pair pair;
    const auto say = [&pair](stream::Stream& from) {
        (void)from.prepare();
        from.commit(64);
        pair.exchange();
    };
    for (std::size_t i = 0; i < count; ++i) {
        say(pair.left);
        say(pair.right);
    }
    if (pair.left.received() != 64 * count) throw std::logic_error("an answer is missing");
}

// ---- all of them ----

struct Scenario {
    std::string_view name;
    std::size_t most;  ///< units
    void (*run)(std::size_t count);
};

constexpr std::array kScenarios = {
    Scenario{"seal_frame_64", kPackets, [](std::size_t count) { tun::seal(count, 64); }},
    Scenario{"seal_frame_65503", kPackets, [](std::size_t count) { tun::seal(count, 65'503); }},
    Scenario{"open_frame_64", kPackets, [](std::size_t count) { tun::open(count, 64); }},
    Scenario{"open_frame_65503", kPackets, [](std::size_t count) { tun::open(count, 65'503); }},
    Scenario{"seal_message_64", kPackets, [](std::size_t count) { udp::seal(count, 64); }},
    Scenario{"seal_message_1088", kPackets, [](std::size_t count) { udp::seal(count, 1'088); }},
    Scenario{"open_message_64", kPackets, [](std::size_t count) { udp::open(count, 64); }},
    Scenario{"open_message_1088", kPackets, [](std::size_t count) { udp::open(count, 1'088); }},
    Scenario{"handshake_curve_tun", kHandshakes, [](std::size_t count) { repeat(count, tun::shake_hands); }},
    Scenario{"handshake_curvecp", kHandshakes, [](std::size_t count) { repeat(count, udp::shake_hands); }},
    Scenario{"stream_bulk", kBlocks, bulk},
    Scenario{"stream_question_and_answer", kQuestions, question_and_answer},
};

std::optional<std::size_t> number_of(std::string_view text) {
    std::size_t out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return out;
}

int fail(const char* why) {
    std::fprintf(stderr, "curvegate-counted: %s\n", why);
    return 64;
}

int run(const std::vector<std::string_view>& args) {
    if (args.empty()) {
        for (const auto& scenario : kScenarios)
            std::printf("%s %zu\n", std::string(scenario.name).c_str(), scenario.most);
        return 0;
    }
    if (args.size() != 2) return fail("usage: curvegate-counted [SCENARIO COUNT]");
    const auto* const scenario = std::ranges::find(kScenarios, args[0], &Scenario::name);
    if (scenario == kScenarios.end()) return fail("no such scenario");
    const auto count = number_of(args[1]);
    if (!count || *count > scenario->most) return fail("the count is too large, or no number");
    if (!crypto::initialise()) return fail("no crypto library");
    scenario->run(*count);
    return 0;
}

}  // namespace
}  // namespace curvegate

int main(int argc, char** argv) {
    return curvegate::run({argv + 1, argv + argc});
}
