#include "forward/datagram_forwarder.hpp"
#include "io/dial_udp.hpp"
#include "io/listen.hpp"
#include "support/app.hpp"
#include "support/names.hpp"
#include "support/pipes.hpp"
#include "tunnel/message_datagrams.hpp"

#include <boost/asio/post.hpp>

#include <catch2/catch.hpp>

namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using test::App;
using test::Buffer;
using test::kLoopback;
using test::On;
using test::pattern;
using test::Side;
using tunnel::End;

On either() {
    return GENERATE(On::tcp, On::udp);
}

// ---- the server's end ----

struct Rig {
    asio::io_context context;
    guard::Counters counters;
    test::PipePair pair;
    tunnel::MessagePipe& pipe;
    Side peer;
    App app;
    std::shared_ptr<DatagramForwarder> forwarder;
    std::vector<ForwarderSummary> done;
    std::uint16_t port = 0;  ///< the forwarder's, towards the application

    explicit Rig(On carrier, const ForwarderLimits& limits = {})
        : pair(context, carrier), pipe(*pair.near), peer(std::move(pair.far)), app(context) {
        auto plain = io::connect_udp(kLoopback, app.port());
        REQUIRE(plain.has_value());
        port = io::port_of(plain->get());
        forwarder = std::make_shared<DatagramForwarder>(
            context, std::move(*plain), std::make_unique<tunnel::MessageDatagrams>(std::move(pair.near)),
            limits, counters);
        forwarder->start([this](const ForwarderSummary& summary) { done.push_back(summary); });
    }
    [[nodiscard]] bool until(const std::function<bool()>& holds) {
        return test::run_until(context, [&] {
            app.read();
            return holds();
        });
    }
};

TEST_CASE("each datagram is a message and each message a datagram, empty ones too", "[net][datagrams]") {
    Rig rig(either());
    rig.peer.pipe->start();
    const std::vector<Buffer> all = {pattern(0),      pattern(1), pattern(1'452), pattern(65'000),
                                     pattern(65'503), pattern(0), pattern(9)};
    std::uint64_t bytes = 0;
    for (const auto& one : all) {
        rig.app.say(one, rig.port);
        rig.peer.say(one);
        bytes += one.size();
    }
    REQUIRE(rig.until([&] { return rig.peer.got.size() == all.size() && rig.app.got.size() == all.size(); }));
    CHECK(rig.peer.got == all);
    CHECK(rig.app.got == all);
    CHECK(rig.counters.datagrams_in == all.size());
    CHECK(rig.counters.datagrams_out == all.size());
    CHECK(rig.counters.datagrams_dropped == 0);
    rig.forwarder->stop(Ending::stopped);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].bytes_up == bytes);
    CHECK(rig.done[0].bytes_down == bytes);
}

TEST_CASE("a datagram over the limit is dropped and counted, the next one passes", "[net][datagrams]") {
    Rig rig(either());
    rig.peer.pipe->start();
    rig.app.say(pattern(65'504), rig.port);
    rig.app.say(pattern(65'507), rig.port);
    rig.app.say(pattern(5), rig.port);
    REQUIRE(rig.until([&] { return !rig.peer.got.empty(); }));
    CHECK(rig.peer.got == std::vector<Buffer>{pattern(5)});
    CHECK(rig.counters.datagrams_dropped == 2);
    CHECK(rig.counters.datagrams_in == 1);
}

TEST_CASE("a burst is longer than what may wait, and is not dropped if the tunnel takes it",
          "[net][datagrams]") {
    Rig rig(either());
    rig.peer.pipe->start();
    for (int i = 0; i < 8; ++i) rig.app.say(pattern(60'000), rig.port);
    REQUIRE(rig.until([&] { return rig.peer.got.size() + rig.counters.datagrams_dropped == 8; }));
    CHECK(rig.counters.datagrams_dropped == 0);
}

TEST_CASE("a tunnel that takes nothing costs datagrams, not memory", "[net][datagrams]") {
    Rig rig(either());
    std::size_t said = 0;
    REQUIRE(rig.until([&] {
        rig.app.say(pattern(60'000), rig.port);
        ++said;
        CHECK(rig.pipe.backlog() <= tunnel::MessageDatagrams::kMostWaiting + 2 * 65'536);
        return rig.counters.datagrams_dropped >= 20;
    }));
    rig.peer.pipe->start();
    REQUIRE(rig.until([&] {
        return rig.counters.datagrams_in + rig.counters.datagrams_dropped == said &&
               rig.peer.got.size() == rig.counters.datagrams_in;
    }));
    CHECK(std::ranges::all_of(rig.peer.got, [](const Buffer& one) { return one == pattern(60'000); }));
    rig.app.say(pattern(3), rig.port);  // and the way is free again
    REQUIRE(rig.until([&] { return rig.peer.got.back() == pattern(3); }));
}

TEST_CASE("an application that is not there yet loses datagrams, and is served when it is",
          "[net][datagrams]") {
    Rig rig(either());
    rig.peer.pipe->start();
    const auto address = rig.app.socket.local_endpoint();
    rig.app.socket.close();
    for (int i = 0; i < 3; ++i) {
        rig.peer.say(pattern(10));
        test::run_ready(rig.context);
    }
    CHECK(rig.done.empty());
    rig.app.socket = io::udp::socket(rig.context, address);
    rig.app.socket.non_blocking(true);
    REQUIRE(rig.until([&] {
        rig.peer.say(pattern(11));
        return !rig.app.got.empty();
    }));
    CHECK(rig.app.got[0] == pattern(11));
}

TEST_CASE("a flow ends with its tunnel, and says how", "[net][datagrams]") {
    Rig rig(either());
    SECTION("closed by the peer, after what came before") {
        rig.peer.say(pattern(10));
        rig.peer.pipe->close();
        REQUIRE(rig.until([&] { return !rig.done.empty() && !rig.app.got.empty(); }));
        CHECK(rig.done[0].ending == Ending::orderly);
    }
    SECTION("stopped, and stopped again") {
        rig.peer.pipe->start();
        rig.forwarder->stop(Ending::stopped);
        rig.forwarder->stop(Ending::stopped);
        rig.forwarder->sweep(std::chrono::steady_clock::now() + 100h);
        REQUIRE(rig.until([&] { return !rig.peer.ends.empty(); }));
        CHECK(rig.done[0].ending == Ending::stopped);
        CHECK(rig.peer.ends == std::vector{End::closed});
    }
    CHECK(rig.done.size() == 1);
}

TEST_CASE("a flow on a stream ends when its tunnel does", "[net][datagrams]") {
    const auto [why, ending] = GENERATE(std::pair{tunnel::End::bad_message, Ending::bad_message},
                                        std::pair{tunnel::End::dead_peer, Ending::dead_peer},
                                        std::pair{tunnel::End::numbers_used_up, Ending::numbers_used_up},
                                        std::pair{tunnel::End::stopped, Ending::stopped});
    Rig rig(On::udp);
    test::run_ready(rig.context);
    rig.pair.tunnels->near->end(why);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == ending);
}

TEST_CASE("a flow's limits of time hold, and use in either direction counts", "[net][datagrams]") {
    ForwarderLimits limits;
    limits.idle = 1h;
    limits.max_session = std::chrono::steady_clock::now() + 10h;
    Rig rig(either(), limits);
    rig.peer.pipe->start();
    test::run_ready(rig.context);
    const auto mark = std::chrono::steady_clock::now();
    SECTION("idle") {
        rig.forwarder->sweep(mark + 1h);
        REQUIRE(rig.done.size() == 1);
        CHECK(rig.done[0].ending == Ending::idle);
    }
    SECTION("used up") {
        rig.app.say(pattern(1), rig.port);
        REQUIRE(rig.until([&] { return !rig.peer.got.empty(); }));
        rig.forwarder->sweep(mark + 1h);
        CHECK(rig.done.empty());
    }
    SECTION("used down") {
        rig.peer.say(pattern(1));
        REQUIRE(rig.until([&] { return !rig.app.got.empty(); }));
        rig.forwarder->sweep(mark + 1h);
        CHECK(rig.done.empty());
    }
    SECTION("too old") {
        rig.peer.say(pattern(1));
        rig.forwarder->sweep(*limits.max_session);
        REQUIRE(rig.done.size() == 1);
    }
}

// ---- the way to an application ----

TEST_CASE("a target of datagrams is resolved and connected to", "[net][datagrams]") {
    asio::io_context context;
    test::Names names;
    names.known["here.example"] = {kLoopback};
    App app(context);
    const auto host = GENERATE("127.0.0.1", "here.example", "nowhere.example");
    std::optional<Result<os::UniqueFd>> result;
    io::dial_udp(context, names, {host, app.port(), {}}, std::chrono::steady_clock::now() + 10s,
                 [&](Result<os::UniqueFd> socket) { result.emplace(std::move(socket)); });
    CHECK_FALSE(result.has_value());
    REQUIRE(test::run_until(context, [&] { return result.has_value(); }));
    if (host == std::string_view("nowhere.example")) {
        REQUIRE_FALSE(result->has_value());
        CHECK(result->error().is(io::DialErrc::name_unknown));
        return;
    }
    REQUIRE(result->has_value());
    CHECK(::send((*result)->get(), "hi", 2, 0) == 2);
    REQUIRE(test::run_until(context, [&] {
        app.read();
        return !app.got.empty();
    }));
}

struct Mute final : io::Resolver {
    Handler kept;
    void resolve(asio::io_context&, const std::string&, Handler handler) override {
        kept = std::move(handler);
    }
};

TEST_CASE("a name that is not answered in time is a timeout", "[net][datagrams]") {
    asio::io_context context;
    Mute mute;
    std::optional<Result<os::UniqueFd>> result;
    io::dial_udp(context, mute, {"slow.example", 1, {}}, std::chrono::steady_clock::now() + 20ms,
                 [&](Result<os::UniqueFd> socket) { result.emplace(std::move(socket)); });
    REQUIRE(test::run_until(context, [&] { return result.has_value(); }));
    CHECK(result->error().is(io::DialErrc::timeout));
    mute.kept(std::vector<ScopedIp>{kLoopback});  // too late to matter
}

TEST_CASE("a resolver that never answers holds nothing of a loop that is gone", "[net][datagrams]") {
    Mute mute;
    const auto held = std::make_shared<int>();
    {
        asio::io_context context;
        io::dial_udp(context, mute, {"slow.example", 1, {}}, std::chrono::steady_clock::now() + 10min,
                     [held](const Result<os::UniqueFd>&) { CHECK(*held == 0); });
        CHECK(held.use_count() > 1);
    }
    CHECK(held.use_count() == 1);
    mute.kept(fail(io::DialErrc::name_unknown));
}

}  // namespace
}  // namespace curvegate::forward
