#include "forward/byte_forwarder.hpp"
#include "io/socket_options.hpp"
#include "support/loop.hpp"
#include "support/tunnels.hpp"
#include "tunnel/curvecp/bytes.hpp"

#include <catch2/catch.hpp>

#include <map>

namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using test::Buffer;
using test::Local;
using test::pattern;
using tunnel::curvecp::StreamBytes;
using Pair = std::pair<io::Stream, io::Stream>;

/// `send_buffer`: of the second end, in bytes; 0: the kernel's own choice.
/// A local socket and the forwarder's, which has its options.
Pair make_pair(asio::io_context& context, bool tcp, int send_buffer = 0) {
    Pair out = tcp ? test::tcp_pair(context) : test::unix_pair(context);
    io::set_plain_options(out.second.native_handle(), 60s);
    if (send_buffer > 0) out.second.set_option(asio::socket_base::send_buffer_size(send_buffer));
    return out;
}

stream::Options small(std::size_t most) {
    stream::Options out;
    out.most_unread = most;
    out.most_unsent = most;
    return out;
}

/// The other end of a tunnel in a test's hands.
struct Peer {
    test::MemoryTunnel& tunnel;
    Buffer got;

    [[nodiscard]] stream::Stream& stream() const { return tunnel.stream(); }
    /// Gives how much the stream took.
    std::size_t say(Bytes bytes) const {
        std::size_t taken = 0;
        while (taken < bytes.size()) {
            const auto room = stream().prepare();
            if (room.empty()) break;
            const std::size_t size = std::min(room.size(), bytes.size() - taken);
            std::ranges::copy(bytes.subspan(taken, size), room.begin());
            stream().commit(size);
            taken += size;
        }
        tunnel.flush();
        return taken;
    }
    void end() const {
        stream().finish();
        tunnel.flush();
    }
    void fail() const {
        stream().abort();
        tunnel.flush();
    }
    void read() {
        while (!stream().readable().empty()) {
            const auto bytes = stream().readable();
            got.insert(got.end(), bytes.begin(), bytes.end());
            stream().consume(bytes.size());
        }
        tunnel.flush();
    }
    [[nodiscard]] stream::Incoming incoming() const { return stream().incoming(); }
};

/// One forwarder between a local socket and a hand-driven peer.
struct Rig {
    explicit Rig(bool tcp = true, const ForwarderLimits& limits = {}, const stream::Options& options = {},
                 int send_buffer = 0)
        : tunnels(context, options),
          plain(make_pair(context, tcp, send_buffer)),
          local{std::move(plain.first), {}, false, {}},
          peer{*tunnels.far, {}},
          forwarder(std::make_shared<ByteForwarder>(
              std::move(plain.second), std::make_unique<StreamBytes>(tunnels.near_end()), limits)) {}

    void start() {
        forwarder->start([this](const ForwarderSummary& summary) { done.push_back(summary); });
    }

    asio::io_context context;
    test::TunnelPair tunnels;
    Pair plain;
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
        return until([&] { return !done.empty() && (local.ended || local.broken); });
    }
};

struct Started : Rig {
    explicit Started(bool tcp = true, const ForwarderLimits& limits = {}, const stream::Options& options = {})
        : Rig(tcp, limits, options) {
        start();
    }
};

TEST_CASE("over a stream bytes go both ways and both ends are told", "[net][stream_forwarder]") {
    Started rig(GENERATE(true, false));
    rig.local.write(pattern(1'000));
    rig.peer.say(pattern(70));
    REQUIRE(rig.until([&] { return rig.peer.got == pattern(1'000) && rig.local.got == pattern(70); }));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.incoming() == stream::Incoming::ended; }));
    CHECK(rig.done.empty());  // the other direction is open
    rig.peer.say(pattern(9));
    rig.peer.end();
    REQUIRE(rig.over());
    CHECK(rig.local.ended);
    CHECK(rig.local.got.size() == 79);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == Ending::orderly);
    CHECK(rig.done[0].bytes_up == 1'000);
    CHECK(rig.done[0].bytes_down == 79);
    CHECK(rig.tunnels.near->released == 1);
    CHECK_FALSE(rig.tunnels.near->on_event);
}

TEST_CASE("a local side still sends after the peer's end", "[net][stream_forwarder]") {
    Started rig(GENERATE(true, false));
    rig.peer.end();
    REQUIRE(rig.until([&] { return rig.local.ended; }));
    CHECK(rig.done.empty());
    rig.local.write(pattern(500));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.incoming() == stream::Incoming::ended; }));
    CHECK(rig.peer.got == pattern(500));
    CHECK(rig.done[0].ending == Ending::orderly);
}

TEST_CASE("an orderly end leaves a local side what it has not read yet", "[net][stream_forwarder]") {
    Started rig;
    rig.peer.say(pattern(200'000));
    rig.peer.end();
    rig.local.end();
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::orderly);
    REQUIRE(rig.until([&] { return rig.local.ended || rig.local.broken; }));
    CHECK(rig.local.got.size() == 200'000);
    CHECK(rig.local.ended);
}

TEST_CASE("what came with the handshake is delivered, its end too", "[net][stream_forwarder]") {
    Rig rig;
    rig.peer.say(pattern(300));
    rig.peer.end();
    test::run_ready(rig.context);  // all of it is there before anybody listens to events
    rig.start();
    CHECK(rig.done.empty());
    REQUIRE(rig.until([&] { return rig.local.ended; }));
    CHECK(rig.local.got == pattern(300));
}

/// Two forwarders with a tunnel between them, as client and server ends make it.
struct Chain {
    asio::io_context context;
    test::TunnelPair tunnels;
    Pair near;
    Pair far;
    Local left;
    Local right;
    std::map<int, Ending> endings;
    std::vector<std::shared_ptr<ByteForwarder>> forwarders;

    explicit Chain(bool tcp, const stream::Options& options = {})
        : tunnels(context, options),
          near(make_pair(context, tcp)),
          far(make_pair(context, tcp)),
          left{std::move(near.first), {}, false, {}},
          right{std::move(far.first), {}, false, {}} {
        start(0, std::move(near.second), tunnels.near_end());
        start(1, std::move(far.second), tunnels.far_end());
    }
    void start(int which, io::Stream plain, tunnel::TunnelHandle tunnel) {
        forwarders.push_back(std::make_shared<ByteForwarder>(
            std::move(plain), std::make_unique<StreamBytes>(std::move(tunnel)), ForwarderLimits{}));
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

TEST_CASE("over a stream both directions at once arrive whole", "[net][stream_forwarder]") {
    const bool tcp = GENERATE(true, false);
    Chain chain(tcp, small(GENERATE(70'000U, 4'194'304U)));
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
    CHECK(chain.endings[0] == Ending::orderly);
    CHECK(chain.endings[1] == Ending::orderly);
}

TEST_CASE("a reset at one end is a reset at the other, after what was delivered", "[net][stream_forwarder]") {
    Chain chain(true);
    chain.left.write(pattern(50'000));
    REQUIRE(chain.until([&] { return chain.right.got.size() == 50'000; }));
    chain.left.reset();
    REQUIRE(test::run_until(chain.context, [&] {
        chain.right.read();
        return chain.endings.size() == 2 && (chain.right.ended || chain.right.broken);
    }));
    CHECK(chain.right.broken == asio::error::connection_reset);
    CHECK(chain.endings[0] == Ending::plain_reset);
    CHECK(chain.endings[1] == Ending::tunnel_cut);
}

// ---- truncation ----

TEST_CASE("a stream that fails resets the local side after what was delivered", "[net][stream_forwarder]") {
    Started rig;
    rig.peer.say(pattern(35'000));
    REQUIRE(rig.until([&] { return rig.local.got.size() == 35'000; }));
    rig.peer.fail();
    REQUIRE(rig.over());
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
    // Neither direction goes on.
    CHECK(rig.until([&] { return rig.peer.incoming() == stream::Incoming::failed; }));
    CHECK(rig.tunnels.near->released == 1);
}

TEST_CASE("a tunnel that ends before its time resets the local side and says why",
          "[net][stream_forwarder]") {
    Started rig;
    rig.peer.say(pattern(200'000));
    rig.local.write(pattern(10));
    REQUIRE(rig.until([&] { return rig.local.got.size() == 200'000; }));
    const auto [end, ending] = GENERATE(std::pair{tunnel::End::bad_message, Ending::bad_message},
                                        std::pair{tunnel::End::dead_peer, Ending::dead_peer},
                                        std::pair{tunnel::End::no_answer, Ending::no_answer},
                                        std::pair{tunnel::End::cannot_ask, Ending::cannot_ask},
                                        std::pair{tunnel::End::numbers_used_up, Ending::numbers_used_up},
                                        std::pair{tunnel::End::stopped, Ending::stopped});
    rig.tunnels.near->end(end);
    REQUIRE(rig.over());
    CHECK(rig.local.broken == asio::error::connection_reset);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == ending);
    CHECK(rig.tunnels.near->released == 1);
}

constexpr std::size_t kMuch =
    250'000;  // more than a small kernel buffer takes, and no more than a stream takes besides

/// Its local side has kMuch to come, and the kernel takes little of it.
struct Overfull : Rig {
    explicit Overfull(const ForwarderLimits& limits = {}) : Rig(true, limits, {}, 16'384) {
        local.stream.set_option(asio::socket_base::receive_buffer_size(65'536));
        start();
        peer.say(pattern(kMuch));
        REQUIRE(test::run_until(context, [this] { return tunnels.near->stream().received() == kMuch; }));
    }
};

TEST_CASE("what the tunnel has received when it ends reaches a slow local side first",
          "[net][stream_forwarder]") {
    ForwarderLimits limits;
    limits.drain = 1h;
    Overfull rig(limits);
    rig.tunnels.near->end(tunnel::End::dead_peer);
    rig.context.restart();
    rig.context.run_for(100ms);
    CHECK(rig.done.empty());
    REQUIRE(rig.over());
    CHECK(test::same(rig.local.got, pattern(kMuch)));
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::dead_peer);
}

TEST_CASE("a local side that never takes what came is reset at the drain's deadline",
          "[net][stream_forwarder]") {
    ForwarderLimits limits;
    limits.drain = 50ms;
    Overfull rig(limits);
    rig.tunnels.near->end(tunnel::End::dead_peer);
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::dead_peer);
    CHECK(rig.done[0].bytes_down < kMuch);
}

TEST_CASE("a peer that leaves once both have everything is no truncation", "[net][stream_forwarder]") {
    Overfull rig;
    rig.peer.end();
    rig.local.end();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return rig.tunnels.near->stream().outgoing_done() &&
               rig.tunnels.near->stream().incoming() == stream::Incoming::ended;
    }));
    REQUIRE(rig.done.empty());
    rig.tunnels.near->end(tunnel::End::dead_peer);
    REQUIRE(rig.over());
    CHECK(rig.local.ended);
    CHECK(test::same(rig.local.got, pattern(kMuch)));
    CHECK(rig.done[0].ending == Ending::orderly);
}

TEST_CASE("a local side that resets aborts the stream", "[net][stream_forwarder]") {
    Started rig;
    rig.local.write(pattern(10));
    REQUIRE(rig.until([&] { return rig.peer.got.size() == 10; }));
    SECTION("while it is read") {
        rig.local.reset();
    }
    SECTION("after its end, when it is written to") {
        rig.local.end();
        REQUIRE(rig.until([&] { return rig.peer.incoming() == stream::Incoming::ended; }));
        rig.local.reset();
        for (int i = 0; i < 2; ++i) {  // the first makes the dead socket answer, the second meets that
            rig.peer.say(pattern(100));
            test::run_ready(rig.context);
        }
    }
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && rig.peer.incoming() != stream::Incoming::open;
    }));
    CHECK(rig.done[0].ending == Ending::plain_reset);
    CHECK(rig.tunnels.near->released == 1);
}

TEST_CASE("what a local side sent before it reset reaches the peer, and then the failure",
          "[net][stream_forwarder]") {
    Started rig(GENERATE(true, false));
    const auto reply = pattern(50'000);
    SECTION("if it is written to first") {
        rig.peer.say(pattern(10));
        REQUIRE(rig.until([&] { return rig.tunnels.near->stream().received() == 10; }));
        REQUIRE(rig.until([&] { return rig.local.got.size() == 10; }));
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
        return !rig.done.empty() && rig.peer.incoming() != stream::Incoming::open;
    }));
    CHECK(test::same(rig.peer.got, reply));
    CHECK(rig.done[0].ending == Ending::plain_reset);
    CHECK(rig.tunnels.near->released == 1);
}

TEST_CASE("a stream that is not read holds what a lost local side sent for a drain at most",
          "[net][stream_forwarder]") {
    ForwarderLimits limits;
    limits.drain = 50ms;
    Started rig(true, limits, small(20'000));
    const auto reply = pattern(100'000);
    REQUIRE(rig.local.write(reply) == reply.size());
    test::run_ready(rig.context);  // the stream takes no more
    rig.peer.say(pattern(10));
    test::run_ready(rig.context);
    rig.local.reset();
    rig.peer.say(pattern(10));
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::plain_reset);
    REQUIRE(rig.until([&] { return rig.peer.incoming() == stream::Incoming::failed; }));
    CHECK(rig.peer.got.size() < reply.size());
}

// ---- back-pressure ----

constexpr std::size_t kBound = 32 * 1024 * 1024;  // far over what the buffers on the way take

TEST_CASE("a stream that is not read stops the local side, which gets all across once it is",
          "[net][stream_forwarder]") {
    Started rig(false, {}, small(100'000));
    std::size_t written = 0;
    int idle = 0;
    REQUIRE(test::run_until(rig.context, [&] {
        const auto more = rig.local.write(pattern(50'000));
        written += more;
        idle = more == 0 ? idle + 1 : 0;
        return idle > 20 || written > kBound;
    }));
    REQUIRE(written <= kBound);
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.incoming() == stream::Incoming::ended; }));
    CHECK(rig.peer.got.size() == written);
}

TEST_CASE("a local side that does not read stops the peer's stream, and gets all once it reads",
          "[net][stream_forwarder]") {
    Started rig(false, {}, small(100'000));
    std::size_t said = 0;
    int idle = 0;
    REQUIRE(test::run_until(rig.context, [&] {
        const auto more = rig.peer.say(pattern(60'000));
        said += more;
        idle = more == 0 ? idle + 1 : 0;
        return idle > 20 || said > kBound;
    }));
    REQUIRE(said <= kBound);
    rig.peer.end();
    REQUIRE(rig.until([&] { return rig.local.ended; }));
    CHECK(rig.local.got.size() == said);
}

// ---- limits ----

TEST_CASE("a stream's connection ends when it was idle for so long, and not before",
          "[net][stream_forwarder]") {
    ForwarderLimits limits;
    limits.idle = 1h;
    Started rig(true, limits);
    const auto began = std::chrono::steady_clock::now();
    rig.forwarder->sweep(began + 59min);
    CHECK(rig.done.empty());
    rig.forwarder->sweep(began + 61min);
    REQUIRE(rig.over());
    CHECK(rig.done[0].ending == Ending::idle);
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.until([&] { return rig.peer.incoming() == stream::Incoming::failed; }));
}

TEST_CASE("a stream's connection ends at its greatest age, however busy it is", "[net][stream_forwarder]") {
    ForwarderLimits limits;
    limits.max_session = std::chrono::steady_clock::now() + 1h;
    Started rig(true, limits);
    rig.local.write(pattern(10));
    REQUIRE(rig.until([&] { return rig.peer.got.size() == 10; }));
    rig.forwarder->sweep(*limits.max_session - 1ms);
    CHECK(rig.done.empty());
    rig.forwarder->sweep(*limits.max_session);
    REQUIRE(rig.over());
    CHECK(rig.done[0].ending == Ending::max_session);
}

TEST_CASE("a stream forwarder that is stopped, and stopped again, ends once", "[net][stream_forwarder]") {
    Started rig;
    rig.forwarder->stop(Ending::stopped);
    REQUIRE(rig.done.size() == 1);
    rig.forwarder->stop(Ending::stopped);
    rig.forwarder->sweep(std::chrono::steady_clock::now() + 100h);
    REQUIRE(rig.over());
    REQUIRE(rig.until([&] { return rig.peer.incoming() == stream::Incoming::failed; }));
    CHECK(rig.done.size() == 1);
    CHECK(rig.done[0].ending == Ending::stopped);
    CHECK(rig.tunnels.near->released == 1);
}

TEST_CASE("a stream forwarder that is dropped gives its tunnel back", "[net][stream_forwarder]") {
    Started rig;
    test::run_ready(rig.context);
    rig.forwarder.reset();
    CHECK(rig.tunnels.near->released == 1);
    rig.peer.say(pattern(10));
    test::run_ready(rig.context);
    CHECK(rig.done.empty());
}

}  // namespace
}  // namespace curvegate::forward
