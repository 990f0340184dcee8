#include "support/half_open.hpp"

#include <catch2/catch.hpp>

/// What comes too early, too late, in the wrong place or from whom nobody knows.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

TEST_CASE("messages that come in the vouch's segment are delivered", "[fsm][link]") {
    World world;
    auto ends = half_open(world, world.client_vault);
    ends.client.say(pattern(10));
    ends.client.say({});
    ends.server.vault_is_slow = true;
    ends.server.receive(std::exchange(ends.client.outgoing, {}), kStart);
    CHECK(ends.server.delivered.empty());
    CHECK(ends.server.incoming.size() == 2 * session::curve_tun::kFrameOverhead + 10);
    ends.server.answer_vault(kStart + 1s);
    CHECK(ends.server.delivered == std::vector<Buffer>{pattern(10), {}});
}

TEST_CASE("an answer of the vault that comes after the end is ignored", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    auto server = world.server();
    server.vault_is_slow = true;
    server.receive(client.outgoing, kStart);
    REQUIRE(server.asked.has_value());
    const auto late = world.server_vault.ask(*server.asked);
    server.look_at_clock(kStart + 5s);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::vault_timeout));
    // What the machine itself does with it, without the end around it that would not even pass it on.
    fsm::Server machine(vault::KeySlot::server, world.timeouts, kStart);
    (void)machine.handle(event::Stop{}, kStart);
    for (int i = 0; i < 2; ++i) {
        const auto actions = machine.handle(event_of(late), kStart);
        CHECK(std::holds_alternative<std::monostate>(actions[0]));
    }
    CHECK(server.outgoing.empty());
}

TEST_CASE("who says nothing, or half a packet, is closed at the deadline", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    const Buffer hello = client.outgoing;
    for (const std::size_t part : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{129}}) {
        auto server = world.server();
        server.receive(Bytes(hello).first(part), kStart);
        server.look_at_clock(kStart + 5s - 1ns);
        CHECK_FALSE(server.closed.has_value());
        server.look_at_clock(kStart + 5s);
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(handshake::Errc::hello_timeout));
    }
    auto ends = half_open(world, world.client_vault);
    ends.server.receive(Bytes(ends.client.outgoing).first(100), kStart + 4s);
    ends.server.look_at_clock(kStart + 5s);
    REQUIRE(ends.server.closed.has_value());
    CHECK(ends.server.closed->is(handshake::Errc::vouch_timeout));
}

TEST_CASE("one byte a second does not hold a connection open", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    auto server = world.server();
    for (std::size_t second = 0; second < 100 && !server.closed; ++second) {
        server.receive(Bytes(client.outgoing).subspan(second, 1), kStart + std::chrono::seconds(second));
        server.look_at_clock(kStart + std::chrono::seconds(second));
        REQUIRE(second <= 5);
    }
    CHECK(server.closed.has_value());
}

TEST_CASE("a length that is not the one allowed is refused before its bytes come", "[fsm][link]") {
    World world;
    for (const std::size_t size : {0U, 1U, 7U, 8U, 31U, 32U, 127U, 129U, 168U, 224U, 65'535U}) {
        auto server = world.server();
        server.receive(to_be(static_cast<std::uint16_t>(size)), kStart);
        INFO(size);
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(wire::Errc::wrong_length));
    }
}

TEST_CASE("a vouch that comes after its minute key is gone is refused", "[fsm][link]") {
    World world;
    world.timeouts.vouch = 10min;
    auto ends = half_open(world, world.client_vault);
    const Instant later = kStart + 121s;
    ends.server.receive(ends.client.outgoing, later);
    REQUIRE(ends.server.closed.has_value());
    CHECK(ends.server.closed->is(cookie::Errc::does_not_open));
}

TEST_CASE("a client that the registry does not know is refused after its vouch was checked", "[fsm][link]") {
    World world;
    auto ends = half_open(world, world.client_vault);
    bool asked = false;
    ends.server.authorise = [&](const crypto::PublicKey& key) -> std::optional<std::string> {
        asked = true;
        CHECK(key == world.client_vault.key);
        return "unknown key";
    };
    ends.server.receive(ends.client.outgoing, kStart);
    REQUIRE(ends.server.closed.has_value());
    CHECK(ends.server.closed->is(handshake::Errc::not_authorised));
    CHECK(ends.server.closed->detail() == "unknown key");
    CHECK(asked);
    // The bytes of a refusal: none, whatever the reason was.
    CHECK(ends.server.outgoing.empty());
}

TEST_CASE("a client that pins another server's key gets no further than its hello", "[fsm][link]") {
    World world;
    TestVault other(vault::KeyRole::server, secret_bytes(9));
    ClientEnd client(fsm::Client(other.key, world.timeouts, kStart + 10s), world.client_vault, world.random);
    auto server = world.server();
    client.start(world.fresh_keys(), kStart);
    carry(client, server);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::hello_refused));
    CHECK(server.outgoing.empty());
    client.receive_end(kStart);
    REQUIRE(client.closed.has_value());
    CHECK(client.closed->is(handshake::Errc::peer_closed));
}

TEST_CASE("packets in the wrong place end the connection", "[fsm][link]") {
    World world;
    auto ends = half_open(world, world.client_vault);
    const Buffer vouch = ends.client.outgoing;
    auto fresh = world.client();
    fresh.start(world.fresh_keys(), kStart);
    const Buffer hello = fresh.outgoing;
    SECTION("a vouch before the hello") {
        auto server = world.server();
        server.receive(vouch, kStart);
        CHECK(server.closed.has_value());
    }
    SECTION("a message before the vouch") {
        auto session_first = half_open(world, world.client_vault);
        session_first.client.outgoing.clear();
        session_first.client.say({});
        session_first.server.receive(session_first.client.outgoing, kStart);
        CHECK(session_first.server.closed.has_value());
    }
    SECTION("a second hello where the vouch is due") {
        ends.server.receive(hello, kStart);
        CHECK(ends.server.closed.has_value());
    }
    SECTION("a hello, a cookie or an empty frame when connected") {
        for (const auto& bad : {hello, Buffer{0, 0}, framed(Buffer(packets::kCookiePacketSize, 1))}) {
            auto connected = half_open(world, world.client_vault);
            carry(connected.client, connected.server);
            REQUIRE(connected.server.session.has_value());
            connected.server.receive(bad, kStart);
            CHECK(connected.server.closed.has_value());
        }
    }
    SECTION("a cookie packet sent to a server") {
        auto server = world.server();
        auto other = world.server();
        other.receive(hello, kStart);
        server.receive(other.outgoing, kStart);
        CHECK(server.closed.has_value());
    }
}

}  // namespace
}  // namespace curvegate::test
