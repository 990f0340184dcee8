#include "support/forwarder_rig.hpp"

#include <catch2/catch.hpp>

#include <map>
#include <set>

namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using session::curve_tun::Session;
using test::Buffer;
using test::Local;
using test::pattern;
using tunnel::curve_tun::TcpBytes;
using Rig = test::ForwarderRig;

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
    test::StreamPair near;
    test::StreamPair far;
    test::StreamPair tunnel;
    Local left;
    Local right;
    std::map<int, Ending> endings;
    std::vector<std::shared_ptr<ByteForwarder>> forwarders;

    explicit Chain(bool tcp)
        : near(test::plain_pair(context, tcp)),
          far(test::plain_pair(context, tcp)),
          tunnel(test::tcp_pair(context)),
          left{std::move(near.first), {}, false, {}},
          right{std::move(far.first), {}, false, {}} {
        start(0, std::move(near.second), std::move(tunnel.first), session::Role::client);
        start(1, std::move(far.second), std::move(tunnel.second), session::Role::server);
    }
    void start(int which, io::Stream plain, io::Stream end, session::Role role) {
        auto bytes = std::make_unique<TcpBytes>(std::move(end), *Session::create(role, test::tunnel_key()),
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
