#include "virtual/world.hpp"

/// When packets of the handshake are repeated, and when a client gives up (PROTOCOL 7.3 to 7.5).
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;
using Times = std::vector<Duration>;
using handshake::Errc;

/// Loses the first `count` packets of that kind.
auto lose_first(Kind kind, int count) {
    return [kind, count](const Sent& packet) mutable { return packet.kind == kind && count-- > 0; };
}

TEST_CASE("Hellos go out at their times until the deadline, and then the client is told", "[handshake]") {
    World world;
    world.network.loses = [](const Sent&) { return true; };
    const auto& client = world.dial();
    world.run_for(1min);
    CHECK(world.network.times_of(Kind::hello, world.begin) ==
          Times{0s, 250ms, 750ms, 1'750ms, 3'750ms, 5'750ms, 7'750ms, 9'750ms});
    REQUIRE(client.failed);
    CHECK(client.failed->is(Errc::connect_timeout));
    CHECK(*client.told - world.begin == 10s);
    CHECK(client.tunnel.expired());
}

TEST_CASE("a handshake takes two round trips", "[handshake]") {
    World world;
    const auto& client = world.dial();
    world.run_to(39ms);
    REQUIRE(client.app);
    CHECK(*client.told - world.begin == 20ms);
    CHECK(world.served.size() == 1);
    CHECK(world.network.times_of(Kind::hello, world.begin) == Times{0s});
    CHECK(world.network.times_of(Kind::cookie, world.begin) == Times{10ms});
    CHECK(world.network.times_of(Kind::initiate, world.begin) == Times{20ms});
    CHECK(world.network.of(Kind::client_message).empty());
    world.run_to(1s);
    CHECK(world.network.of(Kind::initiate).size() == 1);
}

TEST_CASE("a Hello or a Cookie that was lost costs the time to the next Hello", "[handshake]") {
    World world;
    world.network.loses = lose_first(GENERATE(Kind::hello, Kind::cookie), 1);
    const auto& client = world.dial();
    REQUIRE(world.until(10s, [&] { return client.told.has_value(); }));
    CHECK(client.app);
    CHECK(world.elapsed() == 250ms + 20ms);
    CHECK(world.network.times_of(Kind::hello, world.begin) == Times{0s, 250ms});
}

TEST_CASE("Initiates are repeated every 250 ms as far as there is something to send", "[handshake]") {
    World world;
    world.network.loses = lose_first(Kind::initiate, 7);
    const auto& client = world.dial();
    REQUIRE(world.until(1s, [&] { return client.told.has_value(); }));
    client.app->write(10'000);
    REQUIRE(world.until(10s, [&] { return !world.served.empty(); }));
    // The ping went out before there was anything to say; three more were allowed.
    CHECK(world.network.times_of(Kind::initiate, world.begin) ==
          Times{20ms, 20ms, 20ms, 20ms, 270ms, 520ms, 770ms, 1'020ms});
    CHECK(world.elapsed() == 1'030ms);
    REQUIRE(world.until(10s, [&] { return client.app->delivered(10'000); }));
    CHECK(world.served.front()->read == 10'000);
    CHECK(world.served.front()->intact);
    CHECK(world.served.size() == 1);
}

TEST_CASE("Initiates after the first one meet the connection that it made", "[handshake]") {
    World world;
    world.network.loses = lose_first(Kind::server_message, 6);
    const auto& client = world.dial();
    REQUIRE(world.until(1s, [&] { return client.told.has_value(); }));
    client.app->write(2'000);
    REQUIRE(world.until(10s, [&] { return client.app->delivered(2'000); }));
    CHECK(world.network.of(Kind::initiate).size() > 4);
    CHECK(world.served.size() == 1);
    CHECK(world.served.front()->read == 2'000);
    CHECK(world.refused.empty());
}

TEST_CASE("a client that has told nothing of its stream starts afresh after 3 s", "[handshake]") {
    World world;
    world.network.loses = [&](const Sent& packet) {
        return packet.kind == Kind::initiate && packet.at < world.begin + 3s;
    };
    const auto& client = world.dial();
    world.run_to(4s);
    REQUIRE(world.network.times_of(Kind::hello, world.begin) == Times{0s, 3'020ms});
    const auto hellos = world.network.of(Kind::hello);
    CHECK(Bytes(hellos[0].bytes).subspan(40, 32).front() != Bytes(hellos[1].bytes).subspan(40, 32).front());
    CHECK(world.served.size() == 1);
    REQUIRE(client.app);
    CHECK_FALSE(client.app->ended);
}

TEST_CASE("a client that has told something never starts afresh, and ends at its deadline", "[handshake]") {
    World world;
    world.network.loses = [](const Sent& packet) { return packet.kind == Kind::initiate; };
    const auto& client = world.dial();
    REQUIRE(world.until(1s, [&] { return client.told.has_value(); }));
    client.app->write(1);
    world.run_for(1min);
    CHECK(world.network.of(Kind::hello).size() == 1);
    REQUIRE(client.app->ended);
    CHECK(*client.app->ended == tunnel::End::no_answer);
    CHECK(client.app->ended_at - world.begin == 10s);
}

TEST_CASE("a client whose vault is silent is told when its time is over", "[handshake]") {
    World world;
    world.client_desk.silent = true;
    const auto& client = world.dial();
    world.run_for(1min);
    REQUIRE(client.failed);
    // The machine and the vault's client have the same patience here.
    CHECK(client.failed->text().find("vault did not answer in time") != std::string::npos);
    CHECK(*client.told - world.begin == 20ms + 5s);
    CHECK(client.tunnel.expired());
}

TEST_CASE("a server whose vault is silent drops the Hello, and serves the next one when the vault answers",
          "[handshake]") {
    World world;
    world.server_desk.silent = true;
    const auto& client = world.dial();
    world.run_to(5s);
    CHECK(world.counters->refusals().empty());
    CHECK(world.network.of(Kind::cookie).empty());
    world.run_to(5'010ms);
    CHECK(world.counters->refusals().size() == 1);
    CHECK(world.counters->refusals().contains(describe(Errc::vault_unavailable)));
    world.run_to(6s);
    world.server_desk.silent = false;
    REQUIRE(world.until(4s, [&] { return client.told.has_value(); }));
    CHECK(client.app);
}

TEST_CASE("an Initiate whose vouch the vault does not answer in time is refused, and nothing is left",
          "[handshake]") {
    World world;
    const auto& client = world.dial();
    REQUIRE(world.until(1s, [&] { return client.told.has_value(); }));
    world.server_desk.silent = true;
    client.app->write(100);
    world.run_to(5'029ms);
    CHECK(world.refused.empty());
    world.run_to(5'030ms);
    REQUIRE(world.refused.size() == 1);
    CHECK(world.refused.front().is(Errc::vault_unavailable));
    CHECK(world.refused.front().detail() == describe(vault_client::VaultErrc::too_slow));
}

}  // namespace
}  // namespace curvegate::test
