#include "support/curvecp.hpp"
#include "support/script.hpp"

#include <catch2/catch.hpp>

/// A server with two keys: a Hello names none, so the machine learns from the vault whose it is.
namespace curvegate::test {
namespace {

constexpr vault::KeySlot kGuess{9};  // not the one of World's key, which is 0

TEST_CASE("a server over TCP that guesses the wrong key asks again under the right one", "[fsm]") {
    World world;
    ServerEnd server(fsm::Server(kGuess, world.timeouts, kStart), world.server_vault, world.random);
    server.keeper = &world.keeper;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    carry(client, server);
    REQUIRE(server.session.has_value());
    REQUIRE(client.session.has_value());
    CHECK(server.slot == vault::KeySlot::server);
    REQUIRE(server.server_shorts.size() == 2);  // a pair of its own for each cookie
    CHECK(server.server_shorts[0] != server.server_shorts[1]);
}

TEST_CASE("a server over UDP that guesses the wrong key asks again under the right one", "[fsm][curvecp]") {
    World world;
    auto client = udp::client_end(world);
    client.feed(udp::event::Start{world.fresh_keys(), udp::kClientFirst}, kStart);
    udp::ServerEnd greeter(udp::fsm::Server(kGuess, {}), world);
    greeter.receive(client.sent.at(0), kStart);
    REQUIRE(greeter.sent.size() == 1);
    client.receive(greeter.sent.at(0), kStart);
    REQUIRE(client.session.has_value());
    // The Initiate meets another machine, which takes the slot from the cookie and not from its guess.
    udp::ServerEnd server(udp::fsm::Server(kGuess, udp::kServerFirst), world);
    server.receive(udp::sealed_initiate(*client.session, *client.introduction, pattern(48)), kStart);
    REQUIRE(server.session.has_value());
    CHECK(server.slot == vault::KeySlot::server);
}

TEST_CASE("a vault that sends a Hello on and on is asked no third time", "[fsm]") {
    Script script;
    auto machine = script.server_in(fsm::ServerState::answering);
    const auto again = machine.handle(event::OtherSlot{kGuess}, kStart);
    CHECK(std::get<action::IssueCookie>(again[0]).slot == kGuess);
    const auto asked = machine.handle(script.event(EventKind::cookie_issued), kStart);
    const auto& request = std::get<action::AskVault>(asked[0]).request;
    CHECK(std::get<vault::AnswerHello>(request).slot == kGuess);
    const auto closed = machine.handle(event::OtherSlot{vault::KeySlot{8}}, kStart);
    CHECK(std::get<action::Close>(closed[0]).why.is(handshake::Errc::hello_refused));
}

TEST_CASE("a vault that names the slot that was asked for is not asked again", "[fsm]") {
    Script script;
    auto tcp = script.server_in(fsm::ServerState::answering);
    const auto closed = tcp.handle(event::OtherSlot{vault::KeySlot::server}, kStart);
    CHECK(std::get<action::Close>(closed[0]).why.is(handshake::Errc::hello_refused));
    udp::Script datagrams;
    auto udp = datagrams.server_in(udp::fsm::ServerState::answering);
    const auto dropped = udp.handle(udp::event::OtherSlot{vault::KeySlot::server}, kStart);
    CHECK(std::get<udp::action::Close>(dropped[0]).why.is(handshake::Errc::hello_refused));
}

TEST_CASE("over TCP the cookie must be bound to the key that the Hello was for", "[fsm]") {
    Script script;
    auto machine = script.server_in(fsm::ServerState::accepting);
    const auto redeem = machine.handle(script.event(EventKind::vouch), kStart);
    CHECK(std::get<action::RedeemCookie>(redeem[0]).slot == vault::KeySlot::server);
}

TEST_CASE("over UDP the vouch is opened under the key of the cookie's slot", "[fsm][curvecp]") {
    udp::Script script;
    auto machine = script.server_in(udp::fsm::ServerState::redeeming);
    auto redeemed = script.event(EventKind::cookie_redeemed);
    std::get<udp::event::CookieRedeemed>(redeemed).key_slot = 77;
    const auto asked = machine.handle(std::move(redeemed), kStart);
    const auto& request = std::get<udp::action::AskVault>(asked[0]).request;
    CHECK(std::get<vault::OpenVouch>(request).slot == vault::KeySlot{77});
}

}  // namespace
}  // namespace curvegate::test
