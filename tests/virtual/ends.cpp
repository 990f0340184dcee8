#include "virtual/world.hpp"

/// How connections end: a dead peer, and TIME-WAIT (PROTOCOL 9.5, 9.6).
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

/// When a packet that was sent to there came last.
Instant last_arrival(const World& world, const IpEndpoint& to) {
    Instant out;
    for (const auto& packet : world.network.sent) {
        if (packet.to == to) out = packet.at + world.network.delay;
    }
    return out;
}
bool is_dead(const App& app) {
    return app.ended == tunnel::End::dead_peer;
}

TEST_CASE("a peer is dead when it has acknowledged nothing for dead-peer, and not before", "[ends]") {
    World world;
    world.dead_peer = GENERATE(60s, 7s);
    auto& client = world.connect();
    App& server = *world.served.front();
    world.network.loses = [](const Sent&) { return true; };
    const bool client_speaks = GENERATE(true, false);
    App& speaker = client_speaks ? *client.app : server;
    speaker.write(1);
    world.run_for(world.dead_peer - 1ns);
    CHECK_FALSE(speaker.ended);
    world.run_for(1ns);
    CHECK(is_dead(speaker));
}

TEST_CASE("a peer that vanishes while nothing is said is found out by a ping", "[ends]") {
    World world;
    auto& client = world.connect();
    App& server = *world.served.front();
    world.network.loses = [](const Sent&) { return true; };
    const Instant client_heard = last_arrival(world, world.home);
    const Instant server_heard = last_arrival(world, world.server);
    world.run_for(5min);
    CHECK(is_dead(*client.app));
    CHECK(client.app->ended_at - client_heard == 80s);
    CHECK(is_dead(server));
    CHECK(server.ended_at - server_heard == 80s);
}

TEST_CASE("any message of the peer begins the wait anew", "[ends]") {
    World world;
    auto& client = world.connect();
    bool cut = true;
    world.network.loses = [&](const Sent&) { return cut; };
    client.app->write(1);
    world.run_for(59s);
    cut = false;
    world.served.front()->write(1);
    world.run_for(20ms);
    cut = true;
    CHECK(client.app->read == 1);
    client.app->write(1);
    world.run_for(50s);
    CHECK_FALSE(client.app->ended);
    world.run_for(20s);
    CHECK(is_dead(*client.app));
}

TEST_CASE("a connection on which nothing is said stays, for a ping in 20 s", "[ends]") {
    World world;
    auto& client = world.connect();
    const std::size_t before = world.network.sent.size();
    world.run_for(1h);
    CHECK_FALSE(client.app->ended);
    CHECK_FALSE(world.served.front()->ended);
    const std::size_t packets = world.network.sent.size() - before;
    CHECK(packets >= 2 * 3'600 / 21);
    CHECK(packets <= 4 * 3'600 / 20);
}

/// Both have said all and told their ends.
struct Finished : World {
    Finished() {
        client = &connect();
        server = served.front().get();
        at_client = client->app->tunnel();
        at_server = server->tunnel();
        client->app->write(1'000);
        client->app->finish();
        server->write(2'000);
        server->finish();
    }
    Client* client;
    App* server;
    std::weak_ptr<tunnel::StreamTunnel> at_client;
    std::weak_ptr<tunnel::StreamTunnel> at_server;

    /// How often the server dropped a packet for that reason.
    template <class Errc>
    [[nodiscard]] std::uint64_t drops(Errc why) const {
        const auto all = counters->refusals();
        const auto found = all.find(describe(why));
        return found == all.end() ? 0 : found->second;
    }
    /// Somebody sends the client's last Message again.
    void replay() {
        const auto last = network.of(Kind::client_message).back();
        network.send(last.from, last.to, last.bytes, io::now());
        run_for(network.delay);
    }
};

TEST_CASE("both ends keep a connection for 3 s after its end, and then nothing of it", "[ends]") {
    Finished both;
    REQUIRE(both.until(10s, [&] { return both.client->app->done_at && both.server->done_at; }));
    both.client->app->give_back();
    both.server->give_back();
    const Instant released = io::now();
    CHECK(both.server->read == 1'000);
    CHECK(both.client->app->read == 2'000);
    both.run_for(1s);
    both.replay();
    CHECK(both.drops(session::Errc::wrong_number) == 1);  // the server knows the connection
    CHECK(both.drops(handshake::Errc::unexpected_packet) == 0);
    both.run_for(released + 3s - 1ns - io::now());
    CHECK_FALSE(both.at_client.expired());
    CHECK_FALSE(both.at_server.expired());
    CHECK(both.endpoint->connections() == 1);
    both.run_for(1ns);
    CHECK(both.at_client.expired());
    CHECK(both.at_server.expired());
    CHECK(both.endpoint->connections() == 0);
    both.replay();
    CHECK(both.drops(session::Errc::wrong_number) == 1);
    CHECK(both.drops(handshake::Errc::unexpected_packet) == 1);
}

TEST_CASE("whoever lost the acknowledgment of its end gets another one in TIME-WAIT", "[ends]") {
    World world;
    auto& client = world.connect();
    App& server = *world.served.front();
    client.app->finish();
    world.run_for(1s);
    int lost = 0;
    world.network.loses = [&](const Sent& packet) {
        return packet.kind == Kind::client_message && ++lost <= 3;
    };
    server.write(1'000);
    server.finish();
    REQUIRE(world.until(10ms, [&] { return client.app->done_at.has_value(); }));
    const auto tunnel = client.app->tunnel();
    client.app->give_back();
    REQUIRE(world.until(3s, [&] { return server.done_at.has_value(); }));
    CHECK(lost > 3);
    CHECK_FALSE(tunnel.expired());
}

TEST_CASE("an end that nobody acknowledges is given up after dead-peer", "[ends]") {
    World world;
    auto& client = world.connect();
    const auto tunnel = client.app->tunnel();
    // A peer that talks and acknowledges nothing is not dead, and is not waited for any longer.
    const bool talks = GENERATE(false, true);
    world.network.loses = [&](const Sent& packet) { return !talks || packet.to == world.server; };
    client.app->finish();
    client.app->give_back();
    world.run_for(30s);
    if (talks) world.served.front()->write(1);
    world.run_for(30s - 1ns);
    CHECK_FALSE(tunnel.expired());
    world.run_for(1ns);
    CHECK(tunnel.expired());
}

TEST_CASE("a failure is repeated for 10 s to a peer that does not answer", "[ends]") {
    World world;
    auto& client = world.connect();
    const auto tunnel = client.app->tunnel();
    world.network.loses = [](const Sent&) { return true; };
    client.app->give_back();  // its stream was not finished
    world.run_for(10s - 1ns);
    CHECK_FALSE(tunnel.expired());
    world.run_for(1ns);
    CHECK(tunnel.expired());
    CHECK_FALSE(world.served.front()->ended);
}

TEST_CASE("a connection that fails is forgotten by both ends after 3 s", "[ends]") {
    World world;
    auto& client = world.connect();
    App& server = *world.served.front();
    const auto at_client = client.app->tunnel();
    const auto at_server = server.tunnel();
    client.app->write(500);
    client.app->give_back();
    REQUIRE(world.until(1s, [&] { return server.stream().incoming() == stream::Incoming::failed; }));
    server.give_back();
    world.run_for(3s - 1ns);
    CHECK_FALSE(at_server.expired());
    world.run_for(100ms);
    CHECK(at_client.expired());
    CHECK(at_server.expired());
}

}  // namespace
}  // namespace curvegate::test
