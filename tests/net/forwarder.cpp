#include "forward/byte_forwarder.hpp"
#include "io/socket_options.hpp"
#include "support/loop.hpp"
#include "support/secrets.hpp"
#include "tunnel/curve_tun/bytes.hpp"

#include <catch2/catch.hpp>

#include <netinet/tcp.h>

#include <map>
#include <set>

namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using service::EndOfStream;
using session::curve_tun::Session;
using test::Buffer;
using test::Local;
using test::pattern;
using tunnel::curve_tun::TcpBytes;
using tunnel::curve_tun::UnheardEnd;
using Pair = std::pair<io::Stream, io::Stream>;

crypto::SharedKey key() {
    return test::secret_number<crypto::SharedKey>(1);
}

/// A local socket and the forwarder's, which has its options.
Pair make_pair(asio::io_context& context, bool tcp) {
    Pair out = tcp ? test::tcp_pair(context) : test::unix_pair(context);
    io::set_plain_options(out.second.native_handle(), 60s);
    return out;
}

/// The other end of a tunnel, which may do what no forwarder does.
struct Peer {
    Local socket;
    Session session = *Session::create(session::Role::client, key());
    std::vector<Buffer> messages;
    Buffer unread;

    [[nodiscard]] Buffer frame(Bytes text) {
        Buffer out(session::curve_tun::kFrameOverhead);
        out.insert(out.end(), text.begin(), text.end());
        REQUIRE(session.seal_frame(out).has_value());
        return out;
    }
    void say(Bytes text) {
        const auto bytes = frame(text);
        REQUIRE(socket.write(bytes) == bytes.size());
    }
    void read() {
        socket.read();
        unread.insert(unread.end(), socket.got.begin(), socket.got.end());
        socket.got.clear();
        while (unread.size() >= 2) {
            const std::size_t size = load_be<std::uint16_t>(Bytes(unread).first<2>());
            if (unread.size() < 2 + size) return;
            Buffer packet(unread.begin() + 2, unread.begin() + static_cast<std::ptrdiff_t>(2 + size));
            unread.erase(unread.begin(), unread.begin() + static_cast<std::ptrdiff_t>(2 + size));
            const auto text = session.open_packet(packet);
            REQUIRE(text.has_value());
            messages.push_back(test::copy_of(*text));
        }
    }
    [[nodiscard]] Buffer all_text() const {
        Buffer out;
        for (const auto& message : messages) out.insert(out.end(), message.begin(), message.end());
        return out;
    }
};

/// One forwarder between a local socket and a hand-driven peer.
struct Rig {
    explicit Rig(bool tcp = true, const ForwarderLimits& with = {}, std::uint64_t first = 2,
                 const TcpBytes::Options& options = {})
        : plain(make_pair(context, tcp)),
          tunnel(test::tcp_pair(context)),
          local{std::move(plain.first), {}, false, {}},
          peer{{std::move(tunnel.first), {}, false, {}},
               *Session::create(session::Role::client, key(), {{first}, {first}}),
               {},
               {}},
          forwarder(std::make_shared<ByteForwarder>(
              std::move(plain.second),
              std::make_unique<TcpBytes>(std::move(tunnel.second),
                                         *Session::create(session::Role::server, key(), {{first}, {first}}),
                                         options, scratch),
              with)) {
        forwarder->start([this](const ForwarderSummary& summary) { done.push_back(summary); });
    }

    asio::io_context context;
    tunnel::Scratch scratch;
    Pair plain;
    Pair tunnel;
    Local local;
    Peer peer;
    std::shared_ptr<ByteForwarder> forwarder;
    std::vector<ForwarderSummary> done;

    [[nodiscard]] bool until(const std::function<bool()>& holds) {
        return test::run_until(context, [&] {
            local.read();
            peer.read();
            return holds();
        });
    }
    [[nodiscard]] bool over() {
        return until([&] {
            return !done.empty() && (local.ended || local.broken) &&
                   (peer.socket.ended || peer.socket.broken);
        });
    }
};

/// A rig whose foreign peer tells its end by a FIN alone.
struct ClosingRig : Rig {
    explicit ClosingRig(UnheardEnd unheard = UnheardEnd::orderly)
        : Rig(true, {}, 2, {EndOfStream::close, unheard}) {}
};

TEST_CASE("bytes go both ways and both ends are told", "[net][forwarder]") {
    Rig rig(GENERATE(true, false));
    rig.local.write(pattern(1'000));
    rig.peer.say(pattern(70));
    rig.peer.say(pattern(71));
    REQUIRE(rig.until([&] { return rig.peer.all_text() == pattern(1'000) && rig.local.got.size() == 141; }));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.messages.back().empty(); }));
    CHECK(rig.done.empty());  // the other direction is open
    rig.peer.say(pattern(9));
    rig.peer.say({});
    REQUIRE(rig.over());
    CHECK(rig.local.ended);
    CHECK(rig.local.got.size() == 150);
    CHECK(rig.peer.socket.ended);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == Ending::orderly);
    CHECK(rig.done[0].bytes_up == 1'000);
    CHECK(rig.done[0].bytes_down == 150);
}

/// Two forwarders with a tunnel between them, as client and server ends make it.
struct Chain {
    asio::io_context context;
    tunnel::Scratch scratch;
    Pair near;
    Pair far;
    Pair tunnel;
    Local left;
    Local right;
    std::map<int, Ending> endings;
    std::vector<std::shared_ptr<ByteForwarder>> forwarders;

    explicit Chain(bool tcp)
        : near(make_pair(context, tcp)),
          far(make_pair(context, tcp)),
          tunnel(test::tcp_pair(context)),
          left{std::move(near.first), {}, false, {}},
          right{std::move(far.first), {}, false, {}} {
        start(0, std::move(near.second), std::move(tunnel.first), session::Role::client);
        start(1, std::move(far.second), std::move(tunnel.second), session::Role::server);
    }
    void start(int which, io::Stream plain, io::Stream end, session::Role role) {
        auto bytes = std::make_unique<TcpBytes>(std::move(end), *Session::create(role, key()),
                                                TcpBytes::Options{}, scratch);
        forwarders.push_back(
            std::make_shared<ByteForwarder>(std::move(plain), std::move(bytes), ForwarderLimits{}));
        forwarders.back()->start(
            [this, which](const ForwarderSummary& summary) { endings[which] = summary.ending; });
    }
    [[nodiscard]] bool until(const std::function<bool()>& holds) {
        return test::run_until(context, [&] {
            left.read();
            right.read();
            return holds();
        });
    }
};

TEST_CASE("a megabyte in flight arrives whole before the half close, in each direction", "[net][forwarder]") {
    Chain chain(GENERATE(true, false));
    const auto data = pattern(1'000'000);
    std::size_t sent = 0;
    REQUIRE(chain.until([&] {
        sent += chain.left.write(Bytes(data).subspan(sent));
        return sent == data.size();
    }));
    chain.left.end();
    REQUIRE(chain.until([&] { return chain.right.ended; }));
    CHECK(test::same(chain.right.got, data));
    CHECK(chain.endings.empty());
    sent = 0;
    REQUIRE(chain.until([&] {
        sent += chain.right.write(Bytes(data).subspan(sent));
        return sent == data.size();
    }));
    chain.right.end();
    REQUIRE(chain.until([&] { return chain.left.ended && chain.endings.size() == 2; }));
    CHECK(test::same(chain.left.got, data));
    CHECK(chain.endings[0] == Ending::orderly);
    CHECK(chain.endings[1] == Ending::orderly);
}

TEST_CASE("both directions at once arrive whole", "[net][forwarder]") {
    Chain chain(true);
    const auto up = pattern(3'000'000);
    const auto down = pattern(2'999'999);
    std::size_t up_sent = 0;
    std::size_t down_sent = 0;
    REQUIRE(chain.until([&] {
        if (up_sent < up.size() && (up_sent += chain.left.write(Bytes(up).subspan(up_sent))) == up.size())
            chain.left.end();
        if (down_sent < down.size() &&
            (down_sent += chain.right.write(Bytes(down).subspan(down_sent))) == down.size())
            chain.right.end();
        return chain.left.ended && chain.right.ended && chain.endings.size() == 2;
    }));
    CHECK(test::same(chain.right.got, up));
    CHECK(test::same(chain.left.got, down));
}

// ---- truncation ----

TEST_CASE("a tunnel that ends without end of stream resets the local side after what was delivered",
          "[net][forwarder]") {
    Rig rig;
    rig.peer.say(pattern(5'000));
    rig.peer.say(pattern(30'000));
    SECTION("by FIN") {
        rig.peer.socket.end();
    }
    SECTION("by FIN within a frame") {
        const auto frame = rig.peer.frame(pattern(500));
        rig.peer.socket.write(Bytes(frame).first(frame.size() - 1));
        rig.peer.socket.end();
    }
    SECTION("by RST, once the messages are across") {
        REQUIRE(rig.until([&] { return rig.local.got.size() == 35'000; }));
        rig.peer.socket.reset();
    }
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(rig.local.got.size() == 35'000);
    CHECK(rig.local.broken == asio::error::connection_reset);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("what came before a reset is delivered even if we were sending", "[net][forwarder]") {
    Rig rig;
    rig.local.write(pattern(100));  // waits to be read and sent
    rig.peer.say(pattern(30'000));
    rig.peer.socket.reset();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(test::same(rig.local.got, pattern(30'000)));
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("a reset waits until a slow local side has taken what was delivered", "[net][forwarder]") {
    ForwarderLimits limits;
    limits.drain = 1h;
    Rig rig(true, limits);
    rig.local.stream.set_option(asio::socket_base::receive_buffer_size(4'096));
    for (int i = 0; i < 4; ++i) {
        rig.peer.say(pattern(50'000));
        test::run_ready(rig.context);
    }
    rig.peer.socket.end();
    rig.context.restart();
    rig.context.run_for(100ms);  // the tunnel's end is seen, and most of it lies with the kernel still
    CHECK(rig.done.empty());
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(rig.local.got.size() == 200'000);
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("a local side that never takes what was delivered is reset at the drain's deadline",
          "[net][forwarder]") {
    ForwarderLimits limits;
    limits.drain = 50ms;
    Rig rig(true, limits);
    rig.local.stream.set_option(asio::socket_base::receive_buffer_size(4'096));
    for (int i = 0; i < 4; ++i) {
        rig.peer.say(pattern(50'000));
        test::run_ready(rig.context);
    }
    rig.peer.socket.end();
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("a message after the end of stream is an error", "[net][forwarder]") {
    Rig rig;
    rig.peer.say(pattern(10));
    rig.peer.say({});
    const auto late = GENERATE(0, 5);
    rig.peer.say(pattern(static_cast<std::size_t>(late)));
    REQUIRE(rig.until([&] { return !rig.done.empty() && (rig.local.ended || rig.local.broken); }));
    CHECK(rig.local.got == pattern(10));
    CHECK(rig.done[0].ending == Ending::after_end);
    CHECK(rig.done[0].bytes_down == 10);
}

TEST_CASE("a message that does not open ends the connection, what came before is delivered",
          "[net][forwarder]") {
    Rig rig;
    rig.peer.say(pattern(10));
    Buffer bad = rig.peer.frame(pattern(20));
    Ending ending = Ending::bad_message;
    SECTION("changed on the way") {
        bad.back() = static_cast<Byte>(bad.back() ^ 1);
    }
    SECTION("repeated") {
        rig.peer.socket.write(bad);
    }
    SECTION("one left out") {
        bad = rig.peer.frame(pattern(5));
    }
    SECTION("its length is that of no message") {
        const auto length = GENERATE(0, 1, 7, 8, 31);
        bad = {0, static_cast<Byte>(length)};
        ending = Ending::bad_length;
    }
    rig.peer.socket.write(bad);
    REQUIRE(rig.until([&] { return !rig.done.empty() && (rig.local.ended || rig.local.broken); }));
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.local.got.size() >= 10);
    CHECK(rig.done[0].ending == ending);
}

TEST_CASE("frames may come in single bytes", "[net][forwarder]") {
    Rig rig;
    Buffer bytes = rig.peer.frame(pattern(50));
    const auto second = rig.peer.frame({});
    bytes.insert(bytes.end(), second.begin(), second.end());
    for (const Byte byte : bytes) {
        rig.peer.socket.write(Buffer{byte});
        test::run_ready(rig.context);
    }
    REQUIRE(rig.until([&] { return rig.local.ended; }));
    CHECK(rig.local.got == pattern(50));
}

TEST_CASE("a local side that resets ends the tunnel without an end of stream", "[net][forwarder]") {
    Rig rig;
    rig.local.write(pattern(10));
    REQUIRE(rig.until([&] { return rig.peer.all_text().size() == 10; }));
    rig.local.reset();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && (rig.peer.socket.ended || rig.peer.socket.broken);
    }));
    CHECK(rig.done[0].ending == Ending::plain_reset);
    for (const auto& message : rig.peer.messages) CHECK_FALSE(message.empty());
}

TEST_CASE("what a local side sent before it reset reaches the peer, and no end of stream",
          "[net][forwarder]") {
    const bool tcp = GENERATE(true, false);
    Rig rig(tcp);
    const auto reply = pattern(90'000);
    SECTION("if it is written to first") {
        rig.peer.say(pattern(10));
        REQUIRE(rig.local.write(reply) == reply.size());
        rig.local.reset();
    }
    SECTION("if it is read first") {
        REQUIRE(rig.local.write(reply) == reply.size());
        rig.local.reset();
        rig.peer.say(pattern(10));
    }
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && (rig.peer.socket.ended || rig.peer.socket.broken);
    }));
    CHECK(test::same(rig.peer.all_text(), reply));
    // A unix socket that is closed when it has read everything ends in order.
    if (tcp) CHECK_FALSE(rig.peer.messages.back().empty());
    CHECK(rig.done[0].ending == Ending::plain_reset);
}

TEST_CASE("a peer that does not read holds what a lost local side sent for a drain at most",
          "[net][forwarder]") {
    ForwarderLimits limits;
    limits.drain = 50ms;
    Rig rig(true, limits);
    const auto chunk = pattern(50'000);
    int idle = 0;
    REQUIRE(test::run_until(rig.context, [&] {
        idle = rig.local.write(chunk) == 0 ? idle + 1 : 0;
        return idle > 20;
    }));
    rig.local.reset();
    rig.peer.say(pattern(10));
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::plain_reset);
}

TEST_CASE("an urgent byte stays in the stream", "[net][forwarder]") {
    Rig rig(GENERATE(true, false));
    const auto text = pattern(3);
    for (const auto flags : {0, static_cast<int>(MSG_OOB), 0}) {
        REQUIRE(::send(rig.local.stream.native_handle(), text.data(), 1, flags | MSG_NOSIGNAL) == 1);
    }
    REQUIRE(rig.until([&] { return rig.peer.all_text().size() == 3; }));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.messages.back().empty(); }));
    CHECK(rig.peer.all_text() == Buffer(3, text[0]));
}

TEST_CASE("a plain socket is asked whether its machine is there, within dead-peer", "[net][forwarder]") {
    asio::io_context context;
    auto [near, far] = test::tcp_pair(context);
    io::set_plain_options(near.native_handle(), 80s);
    const auto option = [&socket = near](int level, int name) {
        int value = 0;
        socklen_t size = sizeof value;
        REQUIRE(::getsockopt(socket.native_handle(), level, name, &value, &size) == 0);
        return value;
    };
    CHECK(option(SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(IPPROTO_TCP, TCP_KEEPIDLE) +
              option(IPPROTO_TCP, TCP_KEEPINTVL) * option(IPPROTO_TCP, TCP_KEEPCNT) ==
          80);
    CHECK(loss_of_plain(ETIMEDOUT) == Ending::plain_dead);
    CHECK(loss_of_plain(ECONNRESET) == Ending::plain_reset);
}

// ---- back-pressure ----

constexpr std::size_t kBound = 32 * 1024 * 1024;  // far over what the kernel's buffers take

TEST_CASE("a peer that does not read stops the local side, and gets all once it reads", "[net][forwarder]") {
    Rig rig(false);
    const auto chunk = pattern(50'000);
    std::size_t written = 0;
    int idle = 0;
    REQUIRE(test::run_until(rig.context, [&] {
        const auto more = rig.local.write(chunk);
        written += more;
        idle = more == 0 ? idle + 1 : 0;
        return idle > 20 || written > kBound;
    }));
    REQUIRE(written <= kBound);
    rig.local.end();
    REQUIRE(rig.until([&] { return !rig.peer.messages.empty() && rig.peer.messages.back().empty(); }));
    CHECK(rig.peer.all_text().size() == written);
}

TEST_CASE("a local side that does not read stops the peer, and gets all once it reads", "[net][forwarder]") {
    Rig rig(false);
    std::size_t said = 0;
    std::size_t stuck = 0;
    Buffer unsent;
    int idle = 0;
    REQUIRE(test::run_until(rig.context, [&] {
        if (unsent.empty()) {
            unsent = rig.peer.frame(pattern(60'000));
            said += 60'000;
        }
        const auto more = rig.peer.socket.write(unsent);
        unsent.erase(unsent.begin(), unsent.begin() + static_cast<std::ptrdiff_t>(more));
        idle = more == 0 ? idle + 1 : 0;
        return idle > 20 || said > kBound;
    }));
    REQUIRE(said <= kBound);
    stuck = rig.local.got.size();
    CHECK(stuck == 0);
    REQUIRE(rig.until([&] {
        const auto more = rig.peer.socket.write(unsent);
        unsent.erase(unsent.begin(), unsent.begin() + static_cast<std::ptrdiff_t>(more));
        return unsent.empty() && rig.local.got.size() == said;
    }));
}

// ---- end-of-stream = close ----

TEST_CASE("with end-of-stream = close the peer's FIN ends both directions in order", "[net][forwarder]") {
    ClosingRig rig;
    rig.peer.say(pattern(10));
    rig.peer.say({});  // carries nothing
    rig.peer.say(pattern(11));
    rig.peer.socket.end();
    REQUIRE(rig.over());
    CHECK(rig.local.ended);
    CHECK(rig.local.got.size() == 21);
    CHECK(rig.done[0].ending == Ending::orderly);
}

TEST_CASE("with end-of-stream = close a FIN within a frame is a truncation still", "[net][forwarder]") {
    ClosingRig rig;
    const auto frame = rig.peer.frame(pattern(500));
    rig.peer.socket.write(Bytes(frame).first(100));
    rig.peer.socket.end();
    REQUIRE(rig.over());
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("with end-of-stream = close a local end closes the tunnel once all has been sent",
          "[net][forwarder]") {
    ClosingRig rig;
    const auto data = pattern(500'000);
    std::size_t sent = 0;
    REQUIRE(rig.until([&] {
        sent += rig.local.write(Bytes(data).subspan(sent));
        return sent == data.size();
    }));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.socket.ended; }));
    CHECK(test::same(rig.peer.all_text(), data));
    for (const auto& message : rig.peer.messages) CHECK_FALSE(message.empty());
    rig.peer.socket.close();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && rig.local.ended;
    }));
    CHECK(rig.done[0].ending == Ending::orderly);
}

TEST_CASE("with end-of-stream = close a local side that resets is a reset, after what it had sent",
          "[net][forwarder]") {
    ClosingRig rig;
    const auto reply = pattern(90'000);
    rig.peer.say(pattern(10));
    REQUIRE(rig.local.write(reply) == reply.size());
    rig.local.reset();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && (rig.peer.socket.ended || rig.peer.socket.broken);
    }));
    CHECK(test::same(rig.peer.all_text(), reply));
    CHECK(rig.peer.socket.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::plain_reset);
}

TEST_CASE(
    "with end-of-stream = close a server that ends before it says anything is no end for a local program",
    "[net][forwarder]") {
    const bool refused =
        GENERATE(true, false);  // a client end's program waits; a server end's client said all
    ClosingRig rig(refused ? UnheardEnd::refusal : UnheardEnd::orderly);
    rig.peer.socket.end();
    REQUIRE(rig.over());
    CHECK(rig.done[0].ending == (refused ? Ending::unheard_end : Ending::orderly));
    CHECK(rig.local.ended == !refused);
}

TEST_CASE("with end-of-stream = close a server that has said something, or was told the end, ends in order",
          "[net][forwarder]") {
    ClosingRig rig(UnheardEnd::refusal);
    SECTION("it has said something") {
        rig.peer.say(pattern(1));
    }
    SECTION("it was told the end") {
        rig.local.end();
        REQUIRE(rig.until([&] { return rig.peer.socket.ended; }));
    }
    rig.peer.socket.end();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(rig.local.ended);
    CHECK(rig.done[0].ending == Ending::orderly);
}

// ---- limits ----

TEST_CASE("a connection ends when it was idle for so long, and not before", "[net][forwarder]") {
    ForwarderLimits limits;
    limits.idle = 1h;
    Rig rig(true, limits);
    const auto began = std::chrono::steady_clock::now();
    rig.forwarder->sweep(began + 59min);
    CHECK(rig.done.empty());
    rig.forwarder->sweep(began + 61min);
    REQUIRE(rig.over());
    CHECK(rig.done[0].ending == Ending::idle);
    CHECK(rig.local.broken == asio::error::connection_reset);
}

TEST_CASE("a connection ends at its greatest age, however busy it is", "[net][forwarder]") {
    ForwarderLimits limits;
    limits.max_session = std::chrono::steady_clock::now() + 1h;
    Rig rig(true, limits);
    rig.local.write(pattern(10));
    REQUIRE(rig.until([&] { return rig.peer.all_text().size() == 10; }));
    rig.forwarder->sweep(*limits.max_session - 1ms);
    CHECK(rig.done.empty());
    rig.forwarder->sweep(*limits.max_session);
    REQUIRE(rig.over());
    CHECK(rig.done[0].ending == Ending::max_session);
}

TEST_CASE("a forwarder that is stopped, and stopped again, ends once", "[net][forwarder]") {
    Rig rig;
    rig.forwarder->stop(Ending::stopped);
    rig.forwarder->stop(Ending::stopped);
    rig.forwarder->sweep(std::chrono::steady_clock::now() + 100h);
    REQUIRE(rig.over());
    rig.forwarder->stop(Ending::stopped);
    test::run_ready(rig.context);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == Ending::stopped);
}

TEST_CASE("the last two message numbers are used, then both directions end", "[net][forwarder]") {
    constexpr std::uint64_t kThirdLast = ~std::uint64_t{0} - 2;  // 2^64-3
    Rig rig(true, {}, kThirdLast);
    SECTION("sending") {
        rig.local.write(pattern(10));
        REQUIRE(rig.until([&] { return rig.peer.messages.size() == 1; }));
        CHECK(rig.done.empty());
        rig.local.write(pattern(11));
        REQUIRE(rig.over());
        CHECK(rig.peer.messages.size() == 2);
    }
    SECTION("receiving") {
        rig.peer.say(pattern(10));
        REQUIRE(rig.until([&] { return rig.local.got.size() == 10; }));
        CHECK(rig.done.empty());
        rig.peer.say(pattern(11));
        REQUIRE(rig.over());
        CHECK(rig.local.got.size() == 21);
    }
    CHECK(rig.done[0].ending == Ending::numbers_used_up);
    CHECK(rig.local.broken == asio::error::connection_reset);
}

TEST_CASE("every ending has words of its own", "[net][forwarder]") {
    std::set<std::string_view> words;
    for (int i = 0; i <= static_cast<int>(Ending::stopped); ++i)
        words.insert(describe(static_cast<Ending>(i)));
    CHECK(words.size() == static_cast<std::size_t>(Ending::stopped) + 1);
    CHECK_FALSE(words.contains("unknown"));
}

}  // namespace
}  // namespace curvegate::forward
