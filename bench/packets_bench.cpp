#include "guard/hello_queue.hpp"
#include "io/listen.hpp"
#include "os/random.hpp"
#include "support/curvecp.hpp"
#include "support/script.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <vector>

/// What a packet of CurveCP costs below the stream: parse, seal, open, the handshake's steps, and sockets;
/// and the same of curve_tun ("tun"), but for sockets. Rates are packets a second ("items").
namespace curvegate {
namespace {

using benchmark::DoNotOptimize;
using benchmark::State;
using session::Role;
using test::Buffer;
using test::udp::Session;
namespace packets = wire::curvecp;
namespace event = handshake::curvecp::event;

test::udp::Script& script() {
    static test::udp::Script instance;
    return instance;
}
test::Script& tun_script() {
    static test::Script instance;
    return instance;
}

// ---- packets of a session ----

constexpr std::size_t kPrepared = 1'024;  // packets that are opened before the receiver is made afresh

Session session(Role own) {
    return *Session::create(own, test::secret_number<crypto::SharedKey>(1), test::udp::kExtensions,
                            {to_array(test::udp::Script::client_keys().public_key.bytes())},
                            crypto::SendCounter({1}));
}

Buffer message_packet(Session& from, std::size_t message) {
    return test::udp::sealed_message(from, test::pattern(message));
}

void parse(State& state, const Buffer& packet) {
    for (auto _ : state) DoNotOptimize(packets::parse_to_server(packet));
    state.SetItemsProcessed(state.iterations());
}
void parse_hello(State& state) {
    Buffer packet(packets::kHelloSize);
    serialise(script().hello(), MutableBytes(packet).first<packets::kHelloSize>());
    parse(state, packet);
}
void parse_initiate(State& state) {
    parse(state, script().initiate());
}
void parse_message(State& state) {
    auto from = session(Role::client);
    parse(state, message_packet(from, packets::kMaxMessage));
}
BENCHMARK(parse_hello);
BENCHMARK(parse_initiate);
BENCHMARK(parse_message);

void seal_message(State& state, Role own) {
    auto from = session(own);
    const auto size = static_cast<std::size_t>(state.range(0));
    Buffer packet(from.overhead() + size);
    for (auto _ : state) DoNotOptimize(from.seal_message(packet));
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(seal_message, client, Role::client)->Arg(64)->Arg(192)->Arg(1'088);
BENCHMARK_CAPTURE(seal_message, server, Role::server)->Arg(64)->Arg(192)->Arg(1'088);

/// Copying the packet is counted: it is opened in place.
void open_message(State& state, Role own) {
    auto from = session(own == Role::client ? Role::server : Role::client);
    std::vector<Buffer> sealed;
    for (std::size_t i = 0; i < kPrepared; ++i)
        sealed.push_back(message_packet(from, static_cast<std::size_t>(state.range(0))));
    Buffer packet(sealed[0].size());
    std::optional<Session> to;
    std::size_t next = kPrepared;
    for (auto _ : state) {
        if (next == kPrepared) {
            to.emplace(session(own));
            next = 0;
        }
        std::ranges::copy(sealed[next], packet.begin());
        ++next;
        const auto opened = to->open_message({next}, packet);
        if (!opened) return state.SkipWithError("a packet does not open");
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(open_message, client, Role::client)->Arg(64)->Arg(192)->Arg(1'088);
BENCHMARK_CAPTURE(open_message, server, Role::server)->Arg(64)->Arg(192)->Arg(1'088);

/// Numbers in order, or each pair swapped.
void receive_window(State& state, std::uint64_t swap) {
    session::ReceiveWindow window;
    std::uint64_t number = 0;
    for (auto _ : state) {
        const crypto::PacketNumber next{number++ ^ swap};
        DoNotOptimize(window.is_new(next));
        window.mark(next);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(receive_window, in_order, 0);
BENCHMARK_CAPTURE(receive_window, swapped, 1);

// ---- frames of curve_tun ----

namespace tun = session::curve_tun;

tun::Session tun_session(Role own) {
    return tun::Session::create(own, test::secret_number<crypto::SharedKey>(1)).value();
}

void tun_seal_frame(State& state) {
    auto from = tun_session(Role::client);
    Buffer frame(tun::kFrameOverhead + static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) DoNotOptimize(from.seal_frame(frame));
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(tun_seal_frame)->Arg(64)->Arg(1'024)->Arg(16'384)->Arg(65'503);

/// Copying the packet is counted, as above. About a megabyte is prepared, so that it comes from a cache.
void tun_open_packet(State& state) {
    constexpr std::size_t header = wire::curve_tun::kFrameHeaderSize;
    auto from = tun_session(Role::client);
    const auto size = static_cast<std::size_t>(state.range(0));
    const std::size_t prepared = std::clamp<std::size_t>((std::size_t{1} << 20) / size, 16, kPrepared);
    std::vector<Buffer> frames(prepared, Buffer(tun::kFrameOverhead + size));
    for (auto& frame : frames) DoNotOptimize(from.seal_frame(frame));
    Buffer packet(tun::kFrameOverhead + size - header);
    std::optional<tun::Session> to;
    std::size_t next = prepared;
    for (auto _ : state) {
        if (next == prepared) {
            to.emplace(tun_session(Role::server));
            next = 0;
        }
        std::ranges::copy(Bytes(frames[next++]).subspan(header), packet.begin());
        if (!to->open_packet(packet)) return state.SkipWithError("a packet does not open");
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(tun_open_packet)->Arg(64)->Arg(1'024)->Arg(16'384)->Arg(65'503);

// ---- handshakes ----

const Instant kNow = test::kStart;

using HelloQueue = guard::HelloQueue<ByteArray<packets::kHelloSize>>;

/// Arrivals from four networks; with `waiting` Hellos there already. Above kPlaces each takes another's
/// place.
void hello_queue(State& state) {
    test::SeededRandom random(1);
    HelloQueue queue(random);
    const ByteArray<packets::kHelloSize> packet{};
    std::array<Path, 4> paths;
    for (std::size_t i = 0; i < paths.size(); ++i) {
        const auto address = asio::ip::address_v4(127U << 24 | static_cast<std::uint32_t>(100 + i) << 16);
        paths[i].peer = {address, 1};
    }
    const auto waiting = static_cast<std::size_t>(state.range(0));
    const bool full = waiting == HelloQueue::kPlaces;
    for (std::size_t i = 0; i < waiting; ++i) queue.push(paths[i % paths.size()], packet, kNow);
    std::size_t turn = 0;
    for (auto _ : state) {
        queue.push(paths[turn++ % paths.size()], packet, kNow);
        if (!full) DoNotOptimize(queue.pop(kNow));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(hello_queue)->Arg(0)->Arg(256)->Arg(HelloQueue::kPlaces);

crypto::EphemeralKeyPair fresh_keys() {
    os::SystemRandom random;
    return *crypto::EphemeralKeyPair::generate(test::pool(), random);
}

/// The machine alone: what keeper and vault answer is there already.
void server_machine_hello(State& state) {
    using handshake::EventKind;
    const auto hello = std::get<event::HelloArrived>(script().event(EventKind::hello));
    const auto issued = std::get<event::CookieIssued>(script().event(EventKind::cookie_issued));
    const auto answered = std::get<event::HelloAnswered>(script().event(EventKind::hello_answered));
    for (auto _ : state) {
        auto server = script().fresh_server();
        DoNotOptimize(server.handle(hello, kNow));
        DoNotOptimize(server.handle(issued, kNow));
        DoNotOptimize(server.handle(answered, kNow));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(server_machine_hello);

/// All that the front does for a Hello: a key pair, a cookie, the machine.
void front_answers_hello(State& state) {
    auto& world = script().world();
    os::SystemRandom random;
    for (auto _ : state) {
        auto server = script().fresh_server();
        DoNotOptimize(server.handle(event::HelloArrived{script().hello()}, kNow));
        const auto keys = fresh_keys();
        const auto cookie = *world.keeper.issue(test::udp::kBinding, script().hello().client_short,
                                                keys.secret, random, kNow);
        DoNotOptimize(server.handle(event::CookieIssued{keys.public_key, cookie}, kNow));
        DoNotOptimize(server.handle(script().event(handshake::EventKind::hello_answered), kNow));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(front_answers_hello);

/// What the vault does for it, its socket apart.
void vault_answers_hello(State& state) {
    test::TestVault vault(vault::KeyRole::server, test::secret_bytes(1));
    auto server = script().server_in(handshake::curvecp::ServerState::issuing);
    const auto actions = server.handle(script().event(handshake::EventKind::cookie_issued), kNow);
    const auto& request = std::get<handshake::curvecp::action::AskVault>(actions[0]).request;
    for (auto _ : state) DoNotOptimize(vault.ask(request));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(vault_answers_hello);

/// Redeeming the cookie is counted, the vault's look at the vouch is not.
void server_machine_initiate(State& state) {
    using handshake::EventKind;
    for (auto _ : state) {
        auto server = script().fresh_server();
        for (const auto kind : {EventKind::vouch, EventKind::cookie_redeemed, EventKind::vouch_is_good,
                                EventKind::authorised, EventKind::cookie_claimed})
            DoNotOptimize(server.handle(script().event(kind), kNow));
        if (server.state() != handshake::curvecp::ServerState::connected)
            return state.SkipWithError("the Initiate is refused");
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(server_machine_initiate);

void make_key_pair(State& state) {
    for (auto _ : state) DoNotOptimize(fresh_keys());
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(make_key_pair);

void issue_cookie(State& state) {
    auto& world = script().world();
    const auto keys = fresh_keys();
    os::SystemRandom random;
    for (auto _ : state)
        DoNotOptimize(world.keeper.issue(test::udp::kBinding, keys.public_key, keys.secret, random, kNow));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(issue_cookie);

void redeem_cookie(State& state) {
    auto& world = script().world();
    for (auto _ : state) DoNotOptimize(world.keeper.redeem(script().cookie(), test::udp::kBinding, kNow));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(redeem_cookie);

// ---- handshakes of curve_tun ----

/// All that a client's front does: a key pair and the machine's four steps, with the vouch at hand.
void tun_client_machine(State& state) {
    using handshake::EventKind;
    for (auto _ : state) {
        auto client = tun_script().fresh_client();
        for (const auto kind :
             {EventKind::start, EventKind::cookie, EventKind::vouch_made, EventKind::written})
            DoNotOptimize(client.handle(tun_script().event(kind), kNow));
        if (client.state() != handshake::curve_tun::ClientState::connected)
            return state.SkipWithError("the Cookie is refused");
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(tun_client_machine);

/// All that a server's front does for a Hello: a key pair, a cookie, the machine.
void tun_server_answers_hello(State& state) {
    using handshake::EventKind;
    const cookie::Binding binding{cookie::Wire::curve_tun, 0, test::udp::kBinding.source};
    auto& world = tun_script().world();
    os::SystemRandom random;
    for (auto _ : state) {
        auto server = tun_script().fresh_server();
        DoNotOptimize(server.handle(tun_script().event(EventKind::hello), kNow));
        const auto keys = fresh_keys();
        const auto cookie =
            *world.keeper.issue(binding, tun_script().hello().client_short, keys.secret, random, kNow);
        DoNotOptimize(server.handle(event::CookieIssued{keys.public_key, cookie}, kNow));
        DoNotOptimize(server.handle(tun_script().event(EventKind::hello_answered), kNow));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(tun_server_answers_hello);

/// The machine's steps with answers of keeper and vault at hand, up to its session; but redeeming the cookie
/// is counted.
void tun_server_takes_vouch(State& state) {
    using handshake::EventKind;
    const auto issued = std::get<event::CookieIssued>(tun_script().event(EventKind::cookie_issued));
    for (auto _ : state) {
        auto server = tun_script().fresh_server();
        DoNotOptimize(server.handle(tun_script().event(EventKind::hello), kNow));
        DoNotOptimize(server.handle(issued, kNow));
        for (const auto kind : {EventKind::hello_answered, EventKind::vouch, EventKind::cookie_redeemed,
                                EventKind::vouch_is_good, EventKind::authorised})
            DoNotOptimize(server.handle(tun_script().event(kind), kNow));
        if (server.state() != handshake::curve_tun::ServerState::connected)
            return state.SkipWithError("the vouch is refused");
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(tun_server_takes_vouch);

// ---- sockets ----

constexpr std::size_t kInBatch = 48;  // packets, sent and then received
constexpr std::size_t kPacket = packets::kMaxPacket;

os::UniqueFd bound_socket() {
    return std::move(io::open_udp({*IpAddress::parse("127.0.0.1"), 0, "bench"}, 1).value().front());
}

double nanoseconds(Duration duration) {
    return std::chrono::duration<double, std::nano>(duration).count();
}

/// `segments` packets of 1,184 bytes a call of send(): 1 is without UDP_SEGMENT. One thread does both ends.
void udp_socket(State& state, io::Gro gro, std::size_t segments) {
    asio::io_context context;
    io::UdpSocket server(context, bound_socket(), gro);
    const auto port = server.local_endpoint().port();
    io::UdpSocket client(context, *io::connect_udp(*IpAddress::parse("127.0.0.1"), port), gro);
    const Buffer train(segments * kPacket);
    Duration sending{};
    Duration receiving{};
    for (auto _ : state) {
        const auto start = std::chrono::steady_clock::now();
        for (std::size_t sent = 0; sent < kInBatch; sent += segments)
            DoNotOptimize(client.send({}, train, kPacket));
        const auto there = std::chrono::steady_clock::now();
        std::size_t came = 0;
        while (const std::size_t some = server.receive([](const Path&, MutableBytes) {})) came += some;
        sending += there - start;
        receiving += std::chrono::steady_clock::now() - there;
        if (came != kInBatch) return state.SkipWithError("packets are lost");
    }
    const auto count = static_cast<double>(state.iterations()) * kInBatch;
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kInBatch));
    state.counters["send_ns"] = nanoseconds(sending) / count;
    state.counters["receive_ns"] = nanoseconds(receiving) / count;
}
BENCHMARK_CAPTURE(udp_socket, one_by_one, io::Gro::off, 1);
BENCHMARK_CAPTURE(udp_socket, gso_alone, io::Gro::off, 48);
BENCHMARK_CAPTURE(udp_socket, gro_alone, io::Gro::on, 1);
BENCHMARK_CAPTURE(udp_socket, gso_and_gro_2, io::Gro::on, 2);
BENCHMARK_CAPTURE(udp_socket, gso_and_gro_16, io::Gro::on, 16);
BENCHMARK_CAPTURE(udp_socket, gso_and_gro_48, io::Gro::on, 48);

}  // namespace
}  // namespace curvegate

int main(int argc, char** argv) {
    if (!curvegate::crypto::initialise()) return 1;  // it chooses the code for this CPU
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
