#include "net/datagram_forwarder.hpp"
#include "net/dial_udp.hpp"
#include "net/flows.hpp"
#include "net/listen.hpp"
#include "support/pipes.hpp"

#include <map>

namespace curvegate::net {
namespace {

using namespace std::chrono_literals;
using End = MessagePipe::End;
using test::Buffer;
using test::On;
using test::pattern;
using test::Side;

const auto kLoopback = IpAddress::from_v4(ByteArray<4>{127, 0, 0, 1});

On either() {
    return GENERATE(On::tcp, On::udp);
}

/// An application's UDP socket.
struct App {
    udp::socket socket;
    std::vector<Buffer> got;
    udp::endpoint last_from;

    explicit App(asio::io_context& context) : socket(context, {asio::ip::address_v4::loopback(), 0}) {
        socket.non_blocking(true);
        socket.set_option(asio::socket_base::receive_buffer_size(4 << 20));
    }
    [[nodiscard]] std::uint16_t port() const { return socket.local_endpoint().port(); }
    [[nodiscard]] std::string name() const { return text_of(socket.local_endpoint()); }
    void say(Bytes datagram, std::uint16_t to) {
        const udp::endpoint where(asio::ip::address_v4::loopback(), to);
        REQUIRE(socket.send_to(asio::buffer(datagram.data(), datagram.size()), where) == datagram.size());
    }
    void read() {
        Buffer bytes(65'536);
        for (;;) {
            error_code error;
            const auto size = socket.receive_from(asio::buffer(bytes), last_from, 0, error);
            if (error) return;
            got.emplace_back(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        }
    }
};

// ---- the server's end ----

struct Rig {
    asio::io_context context;
    Counters counters;
    test::PipePair pair;
    MessagePipe& pipe;
    Side peer;
    App app;
    std::shared_ptr<DatagramForwarder> forwarder;
    std::vector<ForwarderSummary> done;
    std::uint16_t port = 0;  ///< the forwarder's, towards the application

    explicit Rig(On carrier, const ForwarderLimits& limits = {})
        : pair(context, carrier), pipe(*pair.near), peer(std::move(pair.far)), app(context) {
        auto plain = connect_udp(kLoopback, app.port());
        REQUIRE(plain.has_value());
        port = port_of(plain->get());
        forwarder = std::make_shared<DatagramForwarder>(context, std::move(*plain), std::move(pair.near),
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
    rig.forwarder->stop();
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
    for (int i = 0; i < 10; ++i) rig.app.say(pattern(60'000), rig.port);
    REQUIRE(rig.until([&] { return rig.peer.got.size() + rig.counters.datagrams_dropped == 10; }));
    CHECK(rig.counters.datagrams_dropped == 0);
}

TEST_CASE("a tunnel that takes nothing costs datagrams, not memory", "[net][datagrams]") {
    Rig rig(either());
    std::size_t said = 0;
    REQUIRE(rig.until([&] {
        rig.app.say(pattern(60'000), rig.port);
        ++said;
        CHECK(rig.pipe.backlog() <= DatagramPipe::kMostWaiting + 2 * 65'536);
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
    rig.app.socket = udp::socket(rig.context, address);
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
        rig.forwarder->stop();
        rig.forwarder->stop();
        rig.forwarder->sweep(std::chrono::steady_clock::now() + 100h);
        REQUIRE(rig.until([&] { return !rig.peer.ends.empty(); }));
        CHECK(rig.done[0].ending == Ending::stopped);
        CHECK(rig.peer.ends == std::vector{End::closed});
    }
    CHECK(rig.done.size() == 1);
}

TEST_CASE("a flow on a stream ends when its tunnel does", "[net][datagrams]") {
    const auto [why, ending] = GENERATE(std::pair{TunnelEnd::bad_peer, Ending::bad_message},
                                        std::pair{TunnelEnd::dead_peer, Ending::dead_peer},
                                        std::pair{TunnelEnd::numbers_used_up, Ending::numbers_used_up},
                                        std::pair{TunnelEnd::stopped, Ending::stopped});
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

// ---- the client's end ----

/// What a worker is to a Flows: it dials, when the test says so.
struct Door {
    struct Dial {
        std::string source;
        Flows::DialedFn done;
    };
    struct Tunnel {
        test::PipePair pair;
        Side far;
        Tunnel(asio::io_context& context, On carrier) : pair(context, carrier), far(std::move(pair.far)) {
            far.pipe->start();
        }
    };

    asio::io_context context;
    Counters counters;
    std::list<Tunnel> tunnels;
    std::deque<Dial> dials;
    std::vector<std::pair<std::string, Ending>> ended;
    std::uint16_t port = 0;
    std::optional<Flows> flows;
    bool at_once = true;  ///< answer a dial as soon as the loop runs
    On carrier;

    explicit Door(On on, const Flows::Limits& limits = {}) : carrier(on) {
        auto sockets = open_udp({kLoopback, 0, "test"}, 1);
        REQUIRE(sockets.has_value());
        port = port_of(sockets->front().get());
        flows.emplace(
            context, std::move(sockets->front()), limits, counters,
            [this](const std::string& source, Flows::DialedFn done) {
                dials.push_back({source, std::move(done)});
                if (at_once) asio::post(context, [this] { answer(); });
            },
            [this](const std::string& source, const ForwarderSummary& summary) {
                ended.emplace_back(source, summary.ending);
            });
        flows->start();
    }
    ~Door() { flows.reset(); }
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;

    Side& answer() {
        auto dial = std::move(dials.front());
        dials.pop_front();
        auto& tunnel = tunnels.emplace_back(context, carrier);
        dial.done(std::move(tunnel.pair.near));
        return tunnel.far;
    }
    void refuse() {
        auto dial = std::move(dials.front());
        dials.pop_front();
        dial.done(fail(DialErrc::refused));
    }
    /// The peer's end of the tunnel that was dialled as the `index`-th.
    [[nodiscard]] Side& far(std::size_t index) {
        return std::next(tunnels.begin(), static_cast<long>(index))->far;
    }
    [[nodiscard]] bool until(const std::function<bool()>& holds) { return test::run_until(context, holds); }
    /// A new flow for `app`, through which one datagram has gone.
    Side& open(App& app) {
        const auto count = tunnels.size();
        app.say(pattern(7), port);
        REQUIRE(until([&] { return tunnels.size() == count + 1 && tunnels.back().far.got.size() == 1; }));
        return tunnels.back().far;
    }
};

TEST_CASE("each source has a flow of its own, and gets its own answers", "[net][flows]") {
    Door door(either());
    std::list<App> apps;
    for (std::size_t i = 0; i < 5; ++i) {
        auto& app = apps.emplace_back(door.context);
        CHECK(door.open(app).got[0] == pattern(7));
        app.say(pattern(100 + i), door.port);
        app.say({}, door.port);
    }
    REQUIRE(door.until([&] {
        return std::ranges::all_of(door.tunnels, [](const auto& one) { return one.far.got.size() == 3; });
    }));
    std::size_t i = 0;
    for (auto& app : apps) {
        CHECK(door.far(i).got[1] == pattern(100 + i));
        CHECK(door.far(i).got[2].empty());
        door.far(i).say(pattern(200 + i));
        REQUIRE(door.until([&] {
            app.read();
            return !app.got.empty();
        }));
        CHECK(app.got == std::vector<Buffer>{pattern(200 + i)});
        CHECK(app.last_from.port() == door.port);
        ++i;
    }
    CHECK(door.flows->size() == 5);
    CHECK(door.counters.datagrams_in == 15);
    CHECK(door.counters.datagrams_out == 5);
}

TEST_CASE("what comes while the tunnel is dialled is kept within bounds", "[net][flows]") {
    struct Load {
        std::size_t size;
        std::size_t kept;
    };
    Door door(either());
    door.at_once = false;
    App app(door.context);
    const auto load = GENERATE(Load{100, 16}, Load{0, 16}, Load{30'000, 2}, Load{65'503, 1});
    for (int i = 0; i < 20; ++i) app.say(pattern(load.size), door.port);
    REQUIRE(door.until([&] { return door.counters.datagrams_dropped == 20 - load.kept; }));
    REQUIRE(door.dials.size() == 1);
    CHECK(door.dials.front().source == app.name());
    auto& far = door.answer();
    REQUIRE(door.until([&] { return far.got.size() == load.kept; }));
    CHECK(std::ranges::all_of(far.got, [&](const Buffer& one) { return one == pattern(load.size); }));
    app.say(pattern(3), door.port);
    REQUIRE(door.until([&] { return far.got.back() == pattern(3); }));
    CHECK(door.tunnels.size() == 1);
}

TEST_CASE("a failed dial forgets the flow, and its next datagram dials anew", "[net][flows]") {
    Door door(either());
    door.at_once = false;
    App app(door.context);
    app.say(pattern(1), door.port);
    REQUIRE(door.until([&] { return door.dials.size() == 1; }));
    CHECK(door.flows->size() == 1);
    door.refuse();
    CHECK(door.flows->size() == 0);
    CHECK(door.counters.datagrams_dropped == 1);
    CHECK(door.ended.empty());  // there was no tunnel
    app.say(pattern(2), door.port);
    REQUIRE(door.until([&] { return door.dials.size() == 1; }));
    auto& far = door.answer();
    REQUIRE(door.until([&] { return far.got == std::vector<Buffer>{pattern(2)}; }));
}

TEST_CASE("over the cap the least recently used flow makes room", "[net][flows]") {
    Flows::Limits limits;
    limits.flows = 3;
    Door door(either(), limits);
    std::list<App> apps;
    for (int i = 0; i < 3; ++i) door.open(apps.emplace_back(door.context));
    auto app = apps.begin();
    std::size_t oldest = 1;
    SECTION("as they came") {
        oldest = 0;
    }
    SECTION("a datagram up is use") {
        app->say(pattern(5), door.port);
        REQUIRE(door.until([&] { return door.far(0).got.size() == 2; }));
    }
    SECTION("a datagram down is use") {
        door.far(0).say(pattern(5));
        REQUIRE(door.until([&] {
            app->read();
            return !app->got.empty();
        }));
    }
    door.open(apps.emplace_back(door.context));
    CHECK(door.flows->size() == 3);
    REQUIRE(door.ended.size() == 1);
    CHECK(door.ended[0] ==
          std::pair(std::next(apps.begin(), static_cast<long>(oldest))->name(), Ending::evicted));
    REQUIRE(door.until([&] { return door.far(oldest).ends == std::vector{End::closed}; }));
}

TEST_CASE("a flow that made room while it was dialled closes what is dialled for it", "[net][flows]") {
    Flows::Limits limits;
    limits.flows = 1;
    Door door(either(), limits);
    door.at_once = false;
    App first(door.context);
    App second(door.context);
    first.say(pattern(1), door.port);
    REQUIRE(door.until([&] { return door.dials.size() == 1; }));
    second.say(pattern(2), door.port);
    REQUIRE(door.until([&] { return door.dials.size() == 2; }));
    CHECK(door.flows->size() == 1);
    CHECK(door.counters.datagrams_dropped == 1);
    auto& nobodys = door.answer();
    auto& far = door.answer();
    REQUIRE(door.until([&] { return !nobodys.ends.empty() && far.got.size() == 1; }));
    CHECK(nobodys.got.empty());
    CHECK(door.ended.empty());
}

TEST_CASE("a flow without a datagram ends after flow-idle, one that is used does not", "[net][flows]") {
    Flows::Limits limits;
    limits.idle = 60s;
    Door door(either(), limits);
    std::list<App> apps;
    for (int i = 0; i < 3; ++i) door.open(apps.emplace_back(door.context));
    const auto mark = std::chrono::steady_clock::now();
    auto app = apps.begin();
    app->say(pattern(5), door.port);
    std::next(app)->read();
    door.far(1).say(pattern(5));
    REQUIRE(door.until([&] {
        std::next(app)->read();
        return door.far(0).got.size() == 2 && std::next(app)->got.size() == 1;
    }));
    door.flows->sweep(mark + 59s);
    CHECK(door.ended.empty());
    door.flows->sweep(mark + 60s);
    CHECK(door.ended == std::vector{std::pair(apps.back().name(), Ending::idle)});
    CHECK(door.flows->size() == 2);
    door.flows->sweep(mark + 1h);
    CHECK(door.flows->size() == 0);
}

TEST_CASE("a flow ends at its greatest age", "[net][flows]") {
    Flows::Limits limits;
    limits.max_session = 10s;
    Door door(either(), limits);
    App app(door.context);
    door.open(app);
    const auto since = std::chrono::steady_clock::now();
    door.flows->sweep(since + 9s);
    CHECK(door.ended.empty());
    door.flows->sweep(since + 10s);
    REQUIRE(door.ended.size() == 1);
    CHECK(door.ended[0].second == Ending::max_session);
}

TEST_CASE("a flow ends with its connection, and its next datagram opens another", "[net][flows]") {
    Door door(either());
    App app(door.context);
    door.open(app).pipe->close();
    REQUIRE(door.until([&] { return !door.ended.empty(); }));
    CHECK(door.ended[0] == std::pair(app.name(), Ending::orderly));
    CHECK(door.flows->size() == 0);
    door.open(app);
    CHECK(door.flows->size() == 1);
}

TEST_CASE("flows that are closed for newcomers go on, and all end when cut", "[net][flows]") {
    Door door(either());
    App known(door.context);
    App stranger(door.context);
    auto& far = door.open(known);
    door.flows->stop_accepting();
    stranger.say(pattern(1), door.port);
    known.say(pattern(2), door.port);
    REQUIRE(door.until([&] { return far.got.size() == 2 && door.counters.datagrams_dropped == 1; }));
    CHECK(door.flows->size() == 1);
    door.flows->cut();
    CHECK(door.flows->size() == 0);
    CHECK(door.ended == std::vector{std::pair(known.name(), Ending::stopped)});
    REQUIRE(door.until([&] { return !far.ends.empty(); }));
}

// ---- the way to an application ----

struct Names final : Resolver {
    std::map<std::string, std::vector<IpAddress>> known;
    void resolve(asio::io_context& context, const std::string& host, Handler handler) override {
        asio::post(context,
                   [found = known[host], handler = std::move(handler)]() mutable { handler(found); });
    }
};

TEST_CASE("a target of datagrams is resolved and connected to", "[net][datagrams]") {
    asio::io_context context;
    Names names;
    names.known["here.example"] = {kLoopback};
    App app(context);
    const auto host = GENERATE("127.0.0.1", "here.example", "nowhere.example");
    std::optional<Result<os::UniqueFd>> result;
    dial_udp(context, names, {host, app.port(), {}}, std::chrono::steady_clock::now() + 10s,
             [&](Result<os::UniqueFd> socket) { result.emplace(std::move(socket)); });
    CHECK_FALSE(result.has_value());
    REQUIRE(test::run_until(context, [&] { return result.has_value(); }));
    if (host == std::string_view("nowhere.example")) {
        REQUIRE_FALSE(result->has_value());
        CHECK(result->error().is(DialErrc::name_unknown));
        return;
    }
    REQUIRE(result->has_value());
    CHECK(::send((*result)->get(), "hi", 2, 0) == 2);
    REQUIRE(test::run_until(context, [&] {
        app.read();
        return !app.got.empty();
    }));
}

TEST_CASE("a name that is not answered in time is a timeout", "[net][datagrams]") {
    struct Mute final : Resolver {
        Handler kept;
        void resolve(asio::io_context&, const std::string&, Handler handler) override {
            kept = std::move(handler);
        }
    };
    asio::io_context context;
    Mute mute;
    std::optional<Result<os::UniqueFd>> result;
    dial_udp(context, mute, {"slow.example", 1, {}}, std::chrono::steady_clock::now() + 20ms,
             [&](Result<os::UniqueFd> socket) { result.emplace(std::move(socket)); });
    REQUIRE(test::run_until(context, [&] { return result.has_value(); }));
    CHECK(result->error().is(DialErrc::timeout));
    mute.kept({kLoopback});  // too late to matter
}

}  // namespace
}  // namespace curvegate::net
