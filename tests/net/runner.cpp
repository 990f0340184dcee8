#include "tunnel/runner.hpp"

#include "handshake/curve_tun/client.hpp"
#include "io/clock.hpp"
#include "support/bytes.hpp"
#include "support/secrets.hpp"
#include "tunnel/tools.hpp"

#include <catch2/catch.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace curvegate::tunnel {
namespace {

using namespace std::chrono_literals;
using handshake::curve_tun::Client;
using handshake::curve_tun::Event;
namespace action = handshake::curve_tun::action;

const Instant kStart = Instant{} + 1'000h;

/// A client's Port that notes what its Runner wants.
struct Port {
    test::SeededRandom random{3};
    HandshakeTools with{nullptr, nullptr, &test::pool(), &random, nullptr, {}};
    Instant time = kStart;
    std::vector<std::string> did;
    Runner<Client, Port> runner{*this,
                                *crypto::public_key_of(test::secret_number<crypto::EphemeralSecret>(9)),
                                handshake::Timeouts{}, kStart + 10s};

    [[nodiscard]] const HandshakeTools& tools() const { return with; }
    [[nodiscard]] Instant now() const { return time; }
    [[nodiscard]] bool hold() const { return true; }
    [[nodiscard]] Event start(crypto::EphemeralKeyPair keys) const {
        return handshake::event::Start{std::move(keys)};
    }
    void on(const action::Send& send) { did.push_back("send " + std::to_string(send.size)); }
    void on(const handshake::action::Close& close) { did.push_back("close: " + close.why.text()); }
    template <class Other>
    void on(const Other&) {
        did.emplace_back("something else");
    }
    void settled() { did.emplace_back("settled"); }
};

using Did = std::vector<std::string>;

TEST_CASE("a client's runner makes its keys, says hello and settles once", "[net][runner]") {
    Port port;
    port.runner.begin();
    CHECK(port.did == Did{"send 128", "settled"});
    CHECK(port.runner.next_deadline() == kStart + 10s);
}

TEST_CASE("a deadline counts when it has come, and not before", "[net][runner]") {
    Port port;
    port.runner.begin();
    port.did.clear();
    port.runner.look_at_clock(kStart + 10s - 1ns);
    CHECK(port.did.empty());
    port.runner.look_at_clock(kStart + 10s);
    CHECK(port.did == Did{"close: no answer in time", "settled"});
    port.runner.look_at_clock(kStart + 20s);
    CHECK(port.did.size() == 2);
}

TEST_CASE("without locked memory for its keys a client closes and says so", "[net][runner]") {
    const auto small = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 1);
    REQUIRE(small.has_value());
    Port port;
    port.with.pool = small->get();
    std::vector<crypto::EphemeralKeyPair> taken;
    while (auto keys = crypto::EphemeralKeyPair::generate(**small, port.random))
        taken.push_back(std::move(*keys));
    port.runner.begin();
    CHECK(port.did == Did{"close: no locked memory left", "settled"});
}

TEST_CASE("after the end nothing comes of an event but that it settles", "[net][runner]") {
    Port port;
    port.runner.feed(handshake::event::Stop{});
    port.did.clear();
    port.runner.begin();
    CHECK(port.did == Did{"settled"});
}

}  // namespace
}  // namespace curvegate::tunnel
