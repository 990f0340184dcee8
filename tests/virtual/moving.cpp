#include "handshake/curvecp/path.hpp"
#include "virtual/world.hpp"

/// Clients whose address changes (PROTOCOL 7.7).
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMuch = 1 << 20;

/// A client in the midst of a transfer.
struct Transfer : World {
    explicit Transfer(std::uint64_t up_, std::uint64_t down_ = kMuch) : up(up_), down(down_) {
        client = &connect();
        server_app = served.front().get();
        client->app->write(up);
        server_app->write(down);
        run_for(100ms);
        REQUIRE(client->app->read < down / 2);
        REQUIRE(client->app->read > 0);
    }
    const std::uint64_t up;
    const std::uint64_t down;
    const IpEndpoint elsewhere = place("203.0.113.9", 5'555);
    Client* client;
    App* server_app;

    void move() { client->socket->here = elsewhere; }
    [[nodiscard]] bool is_challenge(const Sent& packet) const {
        return packet.to == elsewhere && packet.bytes.size() == handshake::curvecp::kChallengeSize;
    }
    [[nodiscard]] bool arrives(Duration limit) {
        return until(limit, [&] { return client->app->delivered(up) && server_app->delivered(down); }) &&
               client->app->read == down && client->app->intact && server_app->read == up &&
               server_app->intact && !client->app->ended && !server_app->ended;
    }
};

TEST_CASE("a transfer goes on when its client moves, however long the challenges are lost", "[moving]") {
    const bool both_ways = GENERATE(true, false);
    Transfer transfer(both_ways ? kMuch : 0);
    // What comes from the client both ways pays for all that goes there. 12 s outlast a candidate.
    const Duration lost_for = both_ways ? 0s : GENERATE(as<Duration>{}, 0s, 600ms, 3s, 12s);
    INFO("for " << lost_for.count() << " ns challenges are lost");
    const Instant moved = io::now();
    std::optional<Instant> proven;  // not before
    std::size_t over = 0;           // packets beyond three times what came from there
    transfer.network.loses = [&](const Sent& packet) {
        if (packet.to != transfer.elsewhere) return false;
        if (!proven || packet.at < *proven) {
            std::size_t came = 0;
            for (const auto& one : transfer.network.sent) {
                if (one.from == transfer.elsewhere && one.at + transfer.network.delay <= packet.at)
                    came += one.bytes.size();
            }
            if (transfer.network.bytes_to(transfer.elsewhere) > 3 * came) ++over;
        }
        if (!transfer.is_challenge(packet)) return false;
        if (packet.at < moved + lost_for) return true;
        if (!proven) proven = packet.at + 2 * transfer.network.delay;
        return false;
    };
    transfer.move();
    CHECK(transfer.arrives(60s));
    CHECK(over == 0);
    REQUIRE(proven);
    // All of it goes there from then on.
    for (const auto& packet : transfer.network.sent) {
        if (packet.from == transfer.server && packet.at > *proven + 100ms)
            REQUIRE(packet.to == transfer.elsewhere);
    }
}

TEST_CASE("challenges go out twice a second until both are answered", "[moving]") {
    World world;
    auto& client = world.connect();
    const IpEndpoint elsewhere = place("203.0.113.9", 5'555);
    client.socket->here = elsewhere;
    const auto is_challenge = [&](const Sent& packet) {
        return packet.to == elsewhere && packet.bytes.size() == handshake::curvecp::kChallengeSize;
    };
    const Instant moved = io::now();
    world.network.loses = [&](const Sent& packet) {
        return is_challenge(packet) && packet.at < moved + 1'200ms;
    };
    for (int i = 0; i < 50; ++i) {
        client.app->write(100);
        world.run_for(100ms);
    }
    std::vector<Duration> times;
    for (const auto& packet : world.network.sent) {
        if (is_challenge(packet)) times.push_back(packet.at - moved);
    }
    CHECK(times == std::vector<Duration>{10ms, 10ms, 510ms, 510ms, 1'010ms, 1'010ms, 1'510ms, 1'510ms});
    CHECK(client.app->delivered(5'000));
}

TEST_CASE("a client that moves several times is followed", "[moving]") {
    Transfer transfer(kMuch);
    for (std::uint16_t port = 1; port <= 8; ++port) {
        transfer.client->socket->here = place("203.0.113.9", port);
        transfer.run_for(150ms);
    }
    CHECK(transfer.arrives(60s));
}

TEST_CASE("a client that may not be at its new address gets nothing there, and goes on at the old one",
          "[moving]") {
    Transfer transfer(kMuch);
    transfer.welcome_elsewhere = false;
    transfer.move();
    transfer.run_for(5s);
    CHECK(transfer.network.bytes_to(transfer.elsewhere) == 0);
    CHECK_FALSE(transfer.client->app->ended);
    transfer.client->socket->here = transfer.home;
    CHECK(transfer.arrives(60s));
}

TEST_CASE("a client that moves while nothing is said is found by its next ping", "[moving]") {
    World world;
    auto& client = world.connect();
    client.socket->here = place("203.0.113.9", 5'555);
    world.served.front()->write(100);
    REQUIRE(world.until(31s, [&] { return client.app->read == 100; }));
}

}  // namespace
}  // namespace curvegate::test
