#include "support/curvecp.hpp"

#include <catch2/catch.hpp>

/// CurveCP's handshake as a whole: both machines, the vaults and the keeper, by hand and under a passed-in
/// time.
namespace curvegate::test::udp {
namespace {

using namespace std::chrono_literals;
using handshake::Errc;

packets::SealedHello hello_in(const Buffer& packet) {
    return std::get<packets::SealedHello>(*packets::parse_to_server(packet));
}
/// Opens what came as the server's session does.
Buffer opened(Session& at, Buffer packet) {
    const auto parsed = *packets::parse_to_server(packet);
    auto message = [&] {
        if (const auto* initiate = std::get_if<packets::InitiateHeader>(&parsed))
            return at.open_initiate(initiate->number, packet);
        return at.open_message(std::get<packets::ClientMessageHeader>(parsed).number, packet);
    }();
    REQUIRE(message.has_value());
    return copy_of(message->message);
}
Buffer opened_by_client(Session& at, Buffer packet) {
    const auto header = std::get<packets::ServerMessageHeader>(*packets::parse_to_client(packet));
    auto message = at.open_message(header.number, packet);
    REQUIRE(message.has_value());
    return copy_of(message->message);
}

TEST_CASE("client and server meet, and know each other", "[fsm][curvecp]") {
    World world;
    auto client = client_end(world);
    client.feed(event::Start{world.fresh_keys(), kClientFirst}, kStart);
    REQUIRE(client.sent.size() == 1);
    auto greeter = server_end(world);
    REQUIRE(greeter.receive(client.sent[0], kStart));
    REQUIRE(greeter.sent.size() == 1);
    CHECK(greeter.state() == fsm::ServerState::closed);  // nothing is kept
    CHECK_FALSE(greeter.closed.has_value());
    CHECK(greeter.sent[0].size() < client.sent[0].size());
    REQUIRE(client.receive(greeter.sent[0], kStart));
    REQUIRE(client.session.has_value());
    CHECK(client.state() == fsm::ClientState::vouched);

    const auto first = sealed_initiate(*client.session, *client.introduction, pattern(64));
    auto server = server_end(world);
    std::optional<action::Authorise> asked;
    server.authorise = [&](const action::Authorise& ask) {
        asked = ask;
        return std::nullopt;
    };
    REQUIRE(server.receive(first, kStart));
    REQUIRE(server.session.has_value());
    CHECK(server.peer == world.client_vault.key);
    CHECK(server.message == pattern(64));
    REQUIRE(asked.has_value());
    CHECK(asked->client == world.client_vault.key);
    CHECK(packets::decode_server_name(asked->name) == "web");

    // Until the server is heard the client repeats itself in Initiates.
    CHECK(opened(*server.session, sealed_initiate(*client.session, *client.introduction, pattern(80))) ==
          pattern(80));
    const auto down = sealed_message(*server.session, pattern(96));
    CHECK(std::get<packets::ServerMessageHeader>(*packets::parse_to_client(down)).number == kServerFirst);
    CHECK(opened_by_client(*client.session, down) == pattern(96));
    client.feed(event::Confirmed{}, kStart);
    CHECK(client.state() == fsm::ClientState::connected);
    CHECK_FALSE(client.next_deadline().has_value());
    CHECK(opened(*server.session, sealed_message(*client.session, pattern(1'088))) == pattern(1'088));
}

TEST_CASE("Hello, Initiates and Messages of a client count on one line", "[fsm][curvecp]") {
    World world;
    auto client = client_end(world);
    client.feed(event::Start{world.fresh_keys(), kClientFirst}, kStart);
    client.feed(event::DeadlineReached{}, kStart + 250ms);
    CHECK(hello_in(client.sent[0]).number == kClientFirst);
    CHECK(hello_in(client.sent[1]).number.value == kClientFirst.value + 1);
    auto server = server_end(world);
    server.receive(client.sent[0], kStart);
    client.receive(server.sent[0], kStart);  // the answer to the earlier Hello is as good
    const auto initiate = sealed_initiate(*client.session, *client.introduction, pattern(48));
    CHECK(initiate_arrived(initiate).header.number.value == kClientFirst.value + 2);
}

TEST_CASE("the Initiate that made the session does not count in it again", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    auto initiate = sealed_initiate(*client.session, *client.introduction, pattern(48));
    auto server = server_end(world);
    server.receive(initiate, kStart);
    REQUIRE(server.session.has_value());
    const auto again = server.session->open_initiate(initiate_arrived(initiate).header.number, initiate);
    REQUIRE_FALSE(again.has_value());
    CHECK(again.error().is(session::Errc::wrong_number));
}

TEST_CASE("Hello is repeated after 0.25, 0.5, 1, 2 and then every 2 seconds", "[fsm][curvecp]") {
    World world;
    auto client = client_end(world);
    client.feed(event::Start{world.fresh_keys(), kClientFirst}, kStart);
    Instant now = kStart;
    for (const Duration wait : {Duration(250ms), Duration(500ms), Duration(1s), Duration(2s), Duration(2s),
                                Duration(2s), Duration(2s)}) {
        REQUIRE(client.next_deadline() == now + wait);
        now += wait;
        client.feed(event::DeadlineReached{}, now);
    }
    CHECK(now == kStart + 9'750ms);
    CHECK(client.next_deadline() == kStart + kLimit);  // and not later
    REQUIRE(client.sent.size() == 8);
    for (std::size_t i = 0; i < client.sent.size(); ++i) {
        const auto hello = hello_in(client.sent[i]);
        CHECK(hello.number.value == kClientFirst.value + i);
        CHECK(hello.client_short == hello_in(client.sent[0]).client_short);
        CHECK(hello.extensions == kExtensions);
        auto server = server_end(world);
        server.receive(client.sent[i], now);
        CHECK(server.sent.size() == 1);  // its box is made for its own number
    }
    client.feed(event::DeadlineReached{}, kStart + kLimit);
    REQUIRE(client.closed.has_value());
    CHECK(client.closed->is(Errc::connect_timeout));
    CHECK(client.sent.size() == 8);
}

TEST_CASE("a second Cookie changes nothing", "[fsm][curvecp]") {
    World world;
    auto client = client_end(world);
    client.feed(event::Start{world.fresh_keys(), kClientFirst}, kStart);
    std::vector<Buffer> cookies;
    for (int i = 0; i < 2; ++i) {
        auto server = server_end(world);
        server.receive(client.sent[0], kStart);
        cookies.push_back(server.sent.at(0));
    }
    CHECK(cookies[0] != cookies[1]);
    client.receive(cookies[1], kStart);
    const auto deadline = client.next_deadline();
    client.receive(cookies[0], kStart + 1s);
    client.receive(cookies[1], kStart + 1s);
    REQUIRE(client.dropped.size() == 2);
    for (const auto& why : client.dropped) CHECK(why.is(Errc::unexpected_packet));
    CHECK(client.next_deadline() == deadline);
    auto server = server_end(world);
    server.receive(sealed_initiate(*client.session, *client.introduction, pattern(48)), kStart);
    CHECK(server.session.has_value());
}

TEST_CASE("unanswered for 3 seconds a client asks to begin afresh, with keys and cookie of its own",
          "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    const auto old_short = client.session->client_short();
    CHECK(client.next_deadline() == kStart + 3s);
    client.feed(event::DeadlineReached{}, kStart + 3s);
    CHECK(client.asked_afresh == 1);
    CHECK(client.state() == fsm::ClientState::vouched);
    CHECK(client.next_deadline() == kStart + kLimit);  // it is asked once
    client.feed(event::Start{world.fresh_keys(), {7}}, kStart + 3s);
    CHECK(client.state() == fsm::ClientState::initiating);
    CHECK(client.next_deadline() == kStart + 3s + 250ms);
    REQUIRE(client.sent.size() == 2);
    CHECK(hello_in(client.sent[1]).number.value == 7);
    auto greeter = server_end(world);
    greeter.receive(client.sent[1], kStart + 3s);
    client.receive(greeter.sent.at(0), kStart + 3s);
    CHECK(client.session->client_short() != old_short);
    CHECK(client.next_deadline() == kStart + 6s);
    auto server = server_end(world);
    server.receive(sealed_initiate(*client.session, *client.introduction, pattern(48)), kStart + 3s);
    CHECK(server.session.has_value());
    client.feed(event::DeadlineReached{}, kStart + 6s);
    CHECK(client.asked_afresh == 2);
    client.feed(event::DeadlineReached{}, kStart + kLimit);
    REQUIRE(client.closed.has_value());
    CHECK(client.closed->is(Errc::connect_timeout));
}

TEST_CASE("a client that does not begin afresh waits for the server until the limit", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    client.feed(event::DeadlineReached{}, kStart + 3s);
    CHECK(client.asked_afresh == 1);
    client.feed(event::Confirmed{}, kStart + 9s);
    CHECK(client.state() == fsm::ClientState::connected);
    CHECK_FALSE(client.next_deadline().has_value());
}

TEST_CASE("the limit holds in every state of a client", "[fsm][curvecp]") {
    World world;
    auto waiting = client_end(world);
    CHECK(waiting.next_deadline() == kStart + kLimit);
    waiting.feed(event::DeadlineReached{}, kStart + kLimit);
    CHECK(waiting.closed->is(Errc::connect_timeout));
    auto late = client_end(world);
    late.feed(event::Start{world.fresh_keys(), kClientFirst}, kStart + kLimit - 100ms);
    CHECK(late.next_deadline() == kStart + kLimit);
    auto server = server_end(world);
    server.receive(late.sent.at(0), kStart + kLimit - 50ms);
    late.receive(server.sent.at(0), kStart + kLimit - 50ms);
    CHECK(late.state() == fsm::ClientState::vouched);
    CHECK(late.next_deadline() == kStart + kLimit);
    late.feed(event::DeadlineReached{}, kStart + kLimit);
    CHECK(late.asked_afresh == 0);
    CHECK(late.closed->is(Errc::connect_timeout));
    Script script;
    auto vouching = script.fresh_client();
    (void)vouching.handle(script.event(EventKind::start), kStart + kLimit - 1s);
    (void)vouching.handle(script.event(EventKind::cookie), kStart + kLimit - 1s);
    REQUIRE(vouching.state() == fsm::ClientState::vouching);
    CHECK(vouching.next_deadline() == kStart + kLimit);
}

// ---- one cookie, one session ----

TEST_CASE("a replayed Initiate is refused before any public-key work", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    const auto initiate = sealed_initiate(*client.session, *client.introduction, pattern(48));
    auto server = server_end(world);
    server.receive(initiate, kStart);
    REQUIRE(server.session.has_value());
    // The session has ended, the minute key lives: the same packet, and a new one with the same cookie.
    for (const auto& packet :
         {initiate, sealed_initiate(*client.session, *client.introduction, pattern(48))}) {
        auto replayed = server_end(world);
        bool asked = false;
        replayed.authorise = [&](const action::Authorise&) {
            asked = true;
            return std::nullopt;
        };
        const auto keys = pool().in_use();
        replayed.receive(packet, kStart + 61s);
        REQUIRE(replayed.closed.has_value());
        CHECK(replayed.closed->is(Errc::cookie_used));
        CHECK_FALSE(asked);
        CHECK(pool().in_use() == keys);
    }
}

TEST_CASE("of two Initiates with one cookie that come at once, one makes a session", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    auto first = server_end(world);
    auto second = server_end(world);
    for (auto* server : {&first, &second}) {
        server->waits_to_claim = true;
        server->receive(sealed_initiate(*client.session, *client.introduction, pattern(48)), kStart);
        REQUIRE(server->state() == fsm::ServerState::claiming);  // both were let through
        REQUIRE(server->to_claim.has_value());
    }
    second.claim(kStart);
    first.claim(kStart);
    CHECK(second.session.has_value());
    CHECK_FALSE(first.session.has_value());
    REQUIRE(first.closed.has_value());
    CHECK(first.closed->is(Errc::cookie_used));
}

TEST_CASE("a client that is not let in leaves its cookie unclaimed", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    const auto initiate = sealed_initiate(*client.session, *client.introduction, pattern(48));
    auto server = server_end(world);
    server.authorise = [](const action::Authorise&) { return std::optional<std::string>("no such service"); };
    server.receive(initiate, kStart);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(Errc::not_authorised));
    CHECK(server.closed->detail() == "no such service");
    auto later = server_end(world);
    later.receive(initiate, kStart);
    CHECK(later.session.has_value());
}

TEST_CASE("a cookie is good for its address, its wire and its two minutes", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    const auto initiate = sealed_initiate(*client.session, *client.introduction, pattern(48));
    auto elsewhere = server_end(world);
    elsewhere.binding.source = IpAddress::from_v4(ByteArray<4>{127, 0, 0, 2});
    elsewhere.receive(initiate, kStart);
    CHECK(elsewhere.closed->is(cookie::Errc::does_not_open));
    auto over_tcp = server_end(world);
    over_tcp.binding.wire = cookie::Wire::curve_tun;
    over_tcp.receive(initiate, kStart);
    CHECK(over_tcp.closed->is(cookie::Errc::does_not_open));
    auto late = server_end(world);
    late.receive(initiate, kStart + 120s);
    CHECK(late.closed->is(cookie::Errc::does_not_open));
    auto in_time = server_end(world);
    in_time.receive(initiate, kStart + 119s);
    CHECK(in_time.session.has_value());
}

TEST_CASE("the cookie of one client's key does not serve another", "[fsm][curvecp]") {
    World world;
    const auto keys = world.fresh_keys();
    auto client = vouched_client(world, again(keys));
    auto thief = vouched_client(world, world.fresh_keys());
    auto stolen = *thief.introduction;
    stolen.cookie = client.introduction->cookie;
    auto server = server_end(world);
    server.receive(sealed_initiate(*thief.session, stolen, pattern(48)), kStart);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(Errc::cookie_mismatch));
    // Nor does it help to claim the other's C': the box is made for the thief's.
    auto initiate = sealed_initiate(*thief.session, stolen, pattern(48));
    std::ranges::copy(keys.public_key.bytes(), initiate.begin() + packets::kAddressing);
    auto other = server_end(world);
    other.receive(initiate, kStart);
    CHECK(other.closed->is(Errc::vouch_does_not_open));
    auto honest = server_end(world);
    honest.receive(sealed_initiate(*client.session, *client.introduction, pattern(48)), kStart);
    CHECK(honest.session.has_value());
}

TEST_CASE("the vouch of one session does not serve another", "[fsm][curvecp]") {
    World world;
    auto client = vouched_client(world, world.fresh_keys());
    auto thief = vouched_client(world, world.fresh_keys());
    auto stolen = *thief.introduction;
    stolen.vouch = client.introduction->vouch;
    auto server = server_end(world);
    server.receive(sealed_initiate(*thief.session, stolen, pattern(48)), kStart);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(Errc::vouch_refused));
    stolen = *thief.introduction;
    stolen.vouch.client = world.server_vault.key;  // says to be somebody else
    auto other = server_end(world);
    other.receive(sealed_initiate(*thief.session, stolen, pattern(48)), kStart);
    CHECK(other.closed->is(Errc::vouch_refused));
}

TEST_CASE("every Hello gets a cookie and a short-term key of its own", "[fsm][curvecp]") {
    World world;
    auto client = client_end(world);
    client.feed(event::Start{world.fresh_keys(), kClientFirst}, kStart);
    std::vector<Buffer> answers;
    for (int i = 0; i < 50; ++i) {
        auto server = server_end(world);
        server.receive(client.sent[0], kStart);
        answers.push_back(server.sent.at(0));
    }
    std::ranges::sort(answers);
    CHECK(std::ranges::adjacent_find(answers) == answers.end());
}

}  // namespace
}  // namespace curvegate::test::udp
