#include "virtual/world.hpp"

/// Packets of others: forged, recorded, passed on, and too many (PROTOCOL 7.3, 7.5, 7.7).
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

const IpEndpoint kStranger = place("203.0.113.66", 6'666);

/// A connection, and somebody who sees all of its packets.
struct Watched : World {
    Watched() {
        client = &connect();
        client->app->write(10'000);
        run_for(1s);
    }
    Client* client;

    void send_as_stranger(Bytes packet) {
        network.send(kStranger, server, packet, io::now());
        run_for(100ms);
    }
    /// As long as the connection does its work.
    [[nodiscard]] bool goes_on() {
        const auto before = served.front()->read;
        const auto back = client->app->read;
        client->app->write(5'000);
        served.front()->write(5'000);
        run_for(1s);
        return served.front()->read == before + 5'000 && client->app->read == back + 5'000 &&
               client->app->intact && served.front()->intact && served.size() == 1;
    }
};

TEST_CASE("a recorded packet that comes again from elsewhere changes nothing", "[strangers]") {
    Watched watched;
    for (const Kind kind : {Kind::initiate, Kind::client_message}) {
        const auto recorded = watched.network.of(kind);
        REQUIRE_FALSE(recorded.empty());
        watched.send_as_stranger(recorded.front().bytes);
        watched.send_as_stranger(recorded.back().bytes);
    }
    CHECK(watched.network.bytes_to(kStranger) == 0);
    CHECK(watched.goes_on());
    CHECK(watched.network.bytes_to(kStranger) == 0);
    CHECK(watched.counters->refusals().at(describe(session::Errc::wrong_number)) == 4);
}

TEST_CASE("a forged packet from elsewhere changes nothing", "[strangers]") {
    Watched watched;
    for (const Kind kind : {Kind::initiate, Kind::client_message}) {
        Buffer forged = watched.network.of(kind).back().bytes;
        const std::size_t number = kind == Kind::initiate ? 168 : 72;
        forged[number + 1] = static_cast<Byte>(forged[number + 1] + 1);  // above all before
        watched.send_as_stranger(forged);
    }
    CHECK(watched.network.bytes_to(kStranger) == 0);
    CHECK(watched.counters->refusals().at(describe(session::Errc::box_does_not_open)) == 2);
    CHECK(watched.goes_on());
    CHECK(watched.network.bytes_to(kStranger) == 0);
}

TEST_CASE("whoever passes a client's packet on gets its allowance, and does not become the path",
          "[strangers]") {
    Watched watched;
    std::size_t passed = 0;
    watched.network.loses = [&](const Sent& packet) {
        if (packet.from != watched.home || passed != 0) return false;
        passed = packet.bytes.size();
        return true;
    };
    watched.client->app->write(100);
    const Sent stolen = watched.network.sent.back();
    REQUIRE(passed != 0);
    watched.send_as_stranger(stolen.bytes);
    const auto gone = watched.network.bytes_to(kStranger);
    CHECK(gone > 0);  // it might have been the client
    CHECK(gone <= 3 * passed);
    CHECK(watched.goes_on());
    CHECK(watched.network.bytes_to(kStranger) <= 3 * passed);
}

TEST_CASE("an Initiate that was recorded makes no second connection", "[strangers]") {
    Watched watched;
    const auto initiate = watched.network.of(Kind::initiate).front().bytes;
    // Both sides forget the connection; the server does not forget the cookie.
    watched.client->tunnel.lock()->drop();
    watched.served.front()->tunnel().lock()->drop();
    watched.run_for(1s);
    const auto again = watched.network.bytes_to(watched.home);
    watched.network.send(watched.home, watched.server, initiate, io::now());
    watched.run_for(1s);
    CHECK(watched.served.size() == 1);
    CHECK(watched.network.bytes_to(watched.home) == again);
    CHECK(watched.counters->refusals().at(describe(handshake::Errc::cookie_used)) == 1);
}

TEST_CASE("a recorded Hello gets a Cookie and no more", "[strangers]") {
    Watched watched;
    const auto hello = watched.network.of(Kind::hello).front().bytes;
    watched.send_as_stranger(hello);
    watched.run_for(1min);
    CHECK(watched.network.bytes_to(kStranger) == 200);
    CHECK(watched.goes_on());
}

/// Hellos of strangers at a steady rate.
struct Flood {
    World& world;
    std::size_t networks;  ///< of /24
    SeededRandom random{99};
    Buffer hello;
    std::size_t said = 0;

    Flood(World& of, std::size_t from) : world(of), networks(from) {
        auto& client = world.dial();
        world.run_for(1s);
        REQUIRE(client.app);
        hello = world.network.of(Kind::hello).front().bytes;
    }
    void run(Duration time, Duration each) {
        const Instant until = io::now() + time;
        while (io::now() < until) {
            random.fill(MutableBytes(hello).subspan(40, 31));  // EC: nobody's key
            const auto network = said++ % networks;
            const IpAddress from = IpAddress::from_v4(
                ByteArray<4>{10, static_cast<Byte>(network / 256), static_cast<Byte>(network % 256), 1});
            world.network.send({{from}, 1'000}, world.server, hello, io::now());
            world.run_for(each);
        }
    }
};

TEST_CASE(
    "a flood of Hellos while the vault is busy fills the queue and no more, and a fresh one is answered",
    "[strangers]") {
    World world;
    Flood flood(world, 1);
    const auto asked = world.server_desk.asked;
    world.server_desk.silent = true;
    flood.run(1s, 250us);
    REQUIRE(flood.said == 4'000);
    world.run_for(50ms);  // they all arrive, and are read
    CHECK(world.server_desk.asked - asked == vault_client::VaultClient::kMaxHellos);
    constexpr auto kWaiting = guard::HelloQueue<wire::curvecp::SealedHello>::kPlaces;
    CHECK(world.counters->hellos_dropped == flood.said - vault_client::VaultClient::kMaxHellos - kWaiting);
    world.run_for(1'950ms);
    const auto& client = world.dial(place("10.0.0.99", 1));  // in the same network
    world.run_for(100ms);
    world.server_desk.silent = false;
    world.server_desk.takes = 20ms;  // 32 at a time: those that waited would take 300 ms
    const auto before = world.elapsed();
    REQUIRE(world.until(10s, [&] { return client.told.has_value(); }));
    CHECK(client.app);
    CHECK(world.elapsed() - before == 20ms + world.network.delay);
    // Those that had waited for 2 s are forgotten, and counted.
    CHECK(world.counters->hellos_dropped == flood.said - vault_client::VaultClient::kMaxHellos);
    CHECK(world.server_desk.asked - asked == vault_client::VaultClient::kMaxHellos + 1);
    world.run_for(1s);
    CHECK(world.server_desk.asked - asked == vault_client::VaultClient::kMaxHellos + 2);  // and its vouch
}

TEST_CASE(
    "under a flood of Hellos the vault is asked 500 times a second, and whoever is alone in a network is "
    "served",
    "[strangers]") {
    World world;
    Flood flood(world, 4);
    world.server_desk.takes = 20ms;
    flood.run(1s, 200us);
    const auto asked = world.server_desk.asked;
    const auto& client = world.dial(place("198.51.100.99", 1));
    flood.run(1s, 200us);
    CHECK(client.app);
    CHECK(world.server_desk.asked - asked <= 500 + 32 + 10);
    CHECK(world.server_desk.asked - asked >= 400);
}

}  // namespace
}  // namespace curvegate::test
