#include "support/forwarder_rig.hpp"

#include <catch2/catch.hpp>

/// Forwarding with end-of-stream = close.
namespace curvegate::forward {
namespace {

using service::EndOfStream;
using test::pattern;
using tunnel::curve_tun::UnheardEnd;
using Rig = test::ForwarderRig;

/// A rig whose foreign peer tells its end by a FIN alone.
struct ClosingRig : Rig {
    explicit ClosingRig(UnheardEnd unheard = UnheardEnd::orderly)
        : Rig(true, {}, 2, {EndOfStream::close, unheard}) {}
};

TEST_CASE("with end-of-stream = close the peer's FIN ends both directions in order", "[net][forwarder]") {
    ClosingRig rig;
    rig.peer.say(pattern(10));
    rig.peer.say({});  // carries nothing
    rig.peer.say(pattern(11));
    rig.peer.socket.end();
    REQUIRE(rig.over());
    CHECK(rig.local.ended);
    CHECK(rig.local.got.size() == 21);
    CHECK(rig.done[0].ending == Ending::orderly);
}

TEST_CASE("with end-of-stream = close a FIN within a frame is a truncation still", "[net][forwarder]") {
    ClosingRig rig;
    const auto frame = rig.peer.frame(pattern(500));
    rig.peer.socket.write(Bytes(frame).first(100));
    rig.peer.socket.end();
    REQUIRE(rig.over());
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("with end-of-stream = close a local end closes the tunnel once all has been sent",
          "[net][forwarder]") {
    ClosingRig rig;
    const auto data = pattern(500'000);
    std::size_t sent = 0;
    REQUIRE(rig.until([&] {
        sent += rig.local.write(Bytes(data).subspan(sent));
        return sent == data.size();
    }));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.socket.ended; }));
    CHECK(test::same(rig.peer.all_text(), data));
    for (const auto& message : rig.peer.messages) CHECK_FALSE(message.empty());
    rig.peer.socket.close();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && rig.local.ended;
    }));
    CHECK(rig.done[0].ending == Ending::orderly);
}

TEST_CASE("with end-of-stream = close a local side that resets is a reset, after what it had sent",
          "[net][forwarder]") {
    ClosingRig rig;
    const auto reply = pattern(90'000);
    rig.peer.say(pattern(10));
    REQUIRE(rig.local.write(reply) == reply.size());
    rig.local.reset();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && (rig.peer.socket.ended || rig.peer.socket.broken);
    }));
    CHECK(test::same(rig.peer.all_text(), reply));
    CHECK(rig.peer.socket.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::plain_reset);
}

TEST_CASE(
    "with end-of-stream = close a server that ends before it says anything is no end for a local program",
    "[net][forwarder]") {
    const bool refused =
        GENERATE(true, false);  // a client end's program waits; a server end's client said all
    ClosingRig rig(refused ? UnheardEnd::refusal : UnheardEnd::orderly);
    rig.peer.socket.end();
    REQUIRE(rig.over());
    CHECK(rig.done[0].ending == (refused ? Ending::unheard_end : Ending::orderly));
    CHECK(rig.local.ended == !refused);
}

TEST_CASE("with end-of-stream = close a server that has said something, or was told the end, ends in order",
          "[net][forwarder]") {
    ClosingRig rig(UnheardEnd::refusal);
    SECTION("it has said something") {
        rig.peer.say(pattern(1));
    }
    SECTION("it was told the end") {
        rig.local.end();
        REQUIRE(rig.until([&] { return rig.peer.socket.ended; }));
    }
    rig.peer.socket.end();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(rig.local.ended);
    CHECK(rig.done[0].ending == Ending::orderly);
}

}  // namespace
}  // namespace curvegate::forward
