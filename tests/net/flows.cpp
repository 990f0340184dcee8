#include "forward/flows.hpp"
#include "io/dial.hpp"
#include "io/listen.hpp"
#include "support/app.hpp"
#include "support/pipes.hpp"
#include "tunnel/message_datagrams.hpp"

#include <boost/asio/post.hpp>

#include <catch2/catch.hpp>

#include <deque>

namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using test::App;
using test::Buffer;
using test::On;
using test::pattern;
using test::Side;
using tunnel::End;

On either() {
    return GENERATE(On::tcp, On::udp);
}

/// What a worker is to a Flows: it dials, when the test says so.
struct Door {
    struct Dial {
        std::string source;
        io::CancellationPtr cancellation;
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
    guard::Counters counters;
    std::list<Tunnel> tunnels;
    std::deque<Dial> dials;
    std::vector<std::pair<std::string, Ending>> ended;
    std::uint16_t port = 0;
    std::optional<Flows> flows;
    std::string peer = "gate";
    bool at_once = true;     ///< answer a dial as soon as the loop runs
    bool lingering = false;  ///< udp: tunnels live on when their flow has ended
    On carrier;

    explicit Door(On on, const Flows::Limits& limits = {}) : carrier(on) {
        auto sockets = io::open_udp({test::kLoopback, 0, "test"}, 1);
        REQUIRE(sockets.has_value());
        port = io::port_of(sockets->front().get());
        flows.emplace(
            context, std::move(sockets->front()), limits, counters,
            [this](const std::string& source, const io::CancellationPtr& cancellation, Flows::DialedFn done) {
                dials.push_back({source, cancellation, std::move(done)});
                if (at_once) asio::post(context, [this] { answer(); });
            },
            [this] { ++began; },
            [this](const Flows::Who& who, const ForwarderSummary& summary) {
                ended.emplace_back(who.source, summary.ending);
            });
        flows->start();
    }
    ~Door() { flows.reset(); }
    std::size_t began = 0;
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;

    Side& answer() {
        auto dial = std::move(dials.front());
        dials.pop_front();
        auto& tunnel = tunnels.emplace_back(context, carrier);
        std::weak_ptr<tunnel::Remains> remains;
        if (lingering) remains = tunnel.pair.tunnels->near;
        dial.done(Flows::Tunnel{std::make_unique<tunnel::MessageDatagrams>(std::move(tunnel.pair.near)),
                                peer,
                                {},
                                {},
                                0,
                                std::move(remains)});
        return tunnel.far;
    }
    void refuse() {
        auto dial = std::move(dials.front());
        dials.pop_front();
        dial.done(fail(io::DialErrc::refused));
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
    const auto load = GENERATE(Load{100, 64}, Load{0, 64}, Load{30'000, 2}, Load{65'503, 1});
    for (int i = 0; i < 80; ++i) app.say(pattern(load.size), door.port);
    REQUIRE(door.until([&] { return door.counters.datagrams_dropped == 80 - load.kept; }));
    REQUIRE(door.dials.size() == 1);
    CHECK(door.dials.front().source == app.name());
    auto& far = door.answer();
    REQUIRE(door.until([&] { return far.got.size() == load.kept; }));
    CHECK(std::ranges::all_of(far.got, [&](const Buffer& one) { return one == pattern(load.size); }));
    app.say(pattern(3), door.port);
    REQUIRE(door.until([&] { return far.got.back() == pattern(3); }));
    CHECK(door.tunnels.size() == 1);
}

TEST_CASE("flows are ended by who is at their other end", "[net][flows]") {
    Door door(either());
    std::list<App> apps;
    for (int i = 0; i < 2; ++i) {
        door.peer = i == 0 ? "one" : "two";
        door.open(apps.emplace_back(door.context));
    }
    const auto is_one = [](const Flows::Who& who) { return who.peer == "one"; };
    CHECK(door.flows->cut_if(is_one, Ending::revoked) == 1);
    CHECK(door.ended == std::vector{std::pair(apps.front().name(), Ending::revoked)});
    CHECK(door.flows->size() == 1);
    CHECK(door.flows->cut_if(is_one, Ending::revoked) == 0);
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

TEST_CASE("a flow that made room while it was dialled gives the dial up", "[net][flows]") {
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
    CHECK(door.dials.front().cancellation->is_cancelled());
    CHECK_FALSE(door.dials.back().cancellation->is_cancelled());
    auto& nobodys = door.answer();  // one that was there before it could be told
    auto& far = door.answer();
    REQUIRE(door.until([&] { return !nobodys.ends.empty() && far.got.size() == 1; }));
    CHECK(nobodys.got.empty());
    CHECK(door.ended.empty());
}

TEST_CASE("a tunnel that still says goodbye has its flow's place, and gives it up first", "[net][flows]") {
    Flows::Limits limits;
    limits.flows = 2;
    Door door(On::udp, limits);
    door.lingering = true;
    std::list<App> apps;
    for (int i = 0; i < 2; ++i) door.open(apps.emplace_back(door.context));
    const auto has = [&](const std::string& source) {
        return [source](const Flows::Who& who) { return who.source == source; };
    };
    CHECK(door.flows->cut_if(has(apps.front().name()), Ending::idle) == 1);
    CHECK(door.flows->size() == 1);
    CHECK(door.flows->held() == 2);
    const auto& left = *door.tunnels.front().pair.tunnels->near;
    CHECK_FALSE(left.cut);
    door.open(apps.emplace_back(door.context));
    CHECK(left.cut);
    CHECK(door.flows->size() == 2);  // no flow had to go
    CHECK(door.flows->held() == 2);
    CHECK(door.ended.size() == 1);
}

TEST_CASE("the tunnel of a peer whose key may not be used any more gives no answer", "[net][flows]") {
    Door door(On::udp);
    door.lingering = true;
    App app(door.context);
    door.open(app);
    const auto all = [](const Flows::Who&) { return true; };
    CHECK(door.flows->cut_if(all, Ending::revoked) == 1);
    CHECK(door.tunnels.front().pair.tunnels->near->cut);
    CHECK(door.flows->held() == 0);
}

TEST_CASE("flows that are dialled when their service ends give their dials up", "[net][flows]") {
    Door door(either());
    door.at_once = false;
    App app(door.context);
    app.say(pattern(1), door.port);
    REQUIRE(door.until([&] { return door.dials.size() == 1; }));
    const bool cut = GENERATE(true, false);
    if (cut) door.flows->cut(Ending::stopped);
    if (!cut) door.flows.reset();
    CHECK(door.dials.front().cancellation->is_cancelled());
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
    door.flows->cut(Ending::stopped);
    CHECK(door.flows->size() == 0);
    CHECK(door.ended == std::vector{std::pair(known.name(), Ending::stopped)});
    REQUIRE(door.until([&] { return !far.ends.empty(); }));
}

}  // namespace
}  // namespace curvegate::forward
