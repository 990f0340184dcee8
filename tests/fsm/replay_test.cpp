#include "support/half_open.hpp"

#include <catch2/catch.hpp>

#include <set>

/// What was recorded and is sent again, and cookies of other connections: nothing of it comes in.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

/// Everything that one client sent, as somebody on the way would have recorded it.
struct Recorded {
    Buffer hello;
    Buffer vouch_and_messages;
};

Recorded record_session(World& world) {
    auto client = world.client();
    auto server = world.server();
    Recorded out;
    client.start(world.fresh_keys(), kStart);
    out.hello = client.outgoing;
    server.receive(std::exchange(client.outgoing, {}), kStart);
    client.receive(std::exchange(server.outgoing, {}), kStart);
    REQUIRE(client.session.has_value());
    client.say(as_bytes("PAY 100"));
    out.vouch_and_messages = client.outgoing;
    server.receive(client.outgoing, kStart);
    REQUIRE(server.delivered.size() == 1);
    return out;
}

TEST_CASE("a whole session sent again on a second connection is refused at its vouch", "[fsm][link]") {
    World world;
    const auto recorded = record_session(world);
    for (const auto later : {0s, 1s, 4s}) {
        auto server = world.server(kStart + later);
        server.receive(recorded.hello, kStart + later);
        CHECK(server.state() == fsm::ServerState::accepting);  // a Hello tells nothing
        server.receive(recorded.vouch_and_messages, kStart + later);
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(handshake::Errc::cookie_not_ours));
        CHECK_FALSE(server.session.has_value());
        CHECK(server.delivered.empty());
    }
}

TEST_CASE("a session sent again after the daemon restarted is refused", "[fsm][link]") {
    World world;
    const auto recorded = record_session(world);
    World restarted(2);  // the same keys, fresh minute keys
    auto server = restarted.server();
    server.receive(recorded.hello, kStart);
    server.receive(recorded.vouch_and_messages, kStart);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::cookie_not_ours));
}

TEST_CASE("a vouch with another connection's cookie is refused, and that connection completes",
          "[fsm][link]") {
    World world;
    TestVault other_client(vault::KeyRole::client, secret_bytes(3));
    auto* identity = GENERATE(as<int>{}, 0, 1) == 0 ? &world.client_vault : &other_client;
    auto first = half_open(world, world.client_vault);
    auto second = half_open(world, *identity);
    second.server.receive(first.client.outgoing, kStart);  // the first one's vouch, on the second connection
    REQUIRE(second.server.closed.has_value());
    CHECK(second.server.closed->is(handshake::Errc::cookie_not_ours));
    carry(first.client, first.server);
    REQUIRE(first.server.session.has_value());
    CHECK(*first.server.peer == world.client_vault.key);
}

TEST_CASE("a cookie cannot be used a second time", "[fsm][link]") {
    World world;
    auto used = half_open(world, world.client_vault);
    const auto vouch = used.client.outgoing;
    carry(used.client, used.server);
    REQUIRE(used.server.session.has_value());
    SECTION("on another connection") {
        auto again = half_open(world, world.client_vault);
        again.server.receive(vouch, kStart);
        REQUIRE(again.server.closed.has_value());
        CHECK(again.server.closed->is(handshake::Errc::cookie_not_ours));
    }
    SECTION("on the same connection") {
        used.server.receive(vouch, kStart);
        REQUIRE(used.server.closed.has_value());
        CHECK(used.server.closed->is(wire::Errc::wrong_magic));
    }
}

TEST_CASE("a thousand identical hellos give a thousand short-term keys and cookies", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    const auto idle = pool().in_use();
    std::set<crypto::PublicKey> keys;
    std::set<Buffer> answers;
    std::set<Buffer> nonces;
    for (int i = 0; i < 1'000; ++i) {
        auto server = world.server();
        server.receive(client.outgoing, kStart);
        REQUIRE(server.outgoing.size() == 2 + packets::kCookiePacketSize);
        keys.insert(server.server_shorts.at(0));
        nonces.insert(Buffer(server.outgoing.begin() + 10, server.outgoing.begin() + 26));
        answers.insert(server.outgoing);
    }
    CHECK(keys.size() == 1'000);
    CHECK(nonces.size() == 1'000);
    CHECK(answers.size() == 1'000);
    CHECK(pool().in_use() == idle);
}

}  // namespace
}  // namespace curvegate::test
