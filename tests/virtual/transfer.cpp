#include "virtual/world.hpp"

/// Everything arrives whole, whatever the network does.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

TEST_CASE("a mebibyte each way arrives whole over a bad network, and nothing is left afterwards",
          "[transfer]") {
    const auto seed = GENERATE(range<std::uint64_t>(1, 11));
    INFO("seed " << seed);
    constexpr std::uint64_t kMuch = 1 << 20;
    World world(seed);
    world.network.loss = 0.05;
    world.network.reordered = 0.1;
    world.network.doubled = 0.05;
    auto& client = world.dial();
    REQUIRE(world.until(10s, [&] { return client.told.has_value(); }));
    REQUIRE(client.app);
    client.app->write(kMuch);
    client.app->finish();
    REQUIRE(world.until(10s, [&] { return !world.served.empty(); }));
    App& server = *world.served.front();
    server.write(kMuch);
    server.finish();
    REQUIRE(world.until(2min, [&] { return client.app->done_at && server.done_at; }));
    CHECK(client.app->read == kMuch);
    CHECK(client.app->intact);
    CHECK(server.read == kMuch);
    CHECK(server.intact);
    CHECK(world.served.size() == 1);
    CHECK(world.refused.empty());
    const auto at_client = client.app->tunnel();
    const auto at_server = server.tunnel();
    client.app->give_back();
    server.give_back();
    world.run_for(3s);
    CHECK(at_client.expired());
    CHECK(at_server.expired());
}

TEST_CASE("a network that is gone for half a minute costs a transfer no more than that", "[transfer]") {
    World world;
    auto& client = world.connect();
    client.app->write(200'000);
    world.run_for(50ms);
    bool gone = true;
    world.network.loses = [&](const Sent&) { return gone; };
    world.run_for(30s);
    gone = false;
    // Probes are 10 s apart at most.
    Duration longest{};
    Instant last = world.begin;
    for (const auto& packet : world.network.of(Kind::client_message)) {
        longest = std::max(longest, packet.at - last);
        last = packet.at;
    }
    CHECK(longest > 5s);
    CHECK(longest <= 10s);
    REQUIRE(world.until(11s, [&] { return client.app->delivered(200'000); }));
    CHECK(world.served.front()->intact);
}

}  // namespace
}  // namespace curvegate::test
