#include "support/forwarder_rig.hpp"

#include <catch2/catch.hpp>

#include <netinet/tcp.h>

/// What is lost or broken while bytes are forwarded: cut tunnels, bad messages, resets, dead machines.
namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using test::Buffer;
using test::pattern;
using Rig = test::ForwarderRig;

TEST_CASE("a tunnel that ends without end of stream resets the local side after what was delivered",
          "[net][forwarder]") {
    Rig rig;
    rig.peer.say(pattern(5'000));
    rig.peer.say(pattern(30'000));
    SECTION("by FIN") {
        rig.peer.socket.end();
    }
    SECTION("by FIN within a frame") {
        const auto frame = rig.peer.frame(pattern(500));
        rig.peer.socket.write(Bytes(frame).first(frame.size() - 1));
        rig.peer.socket.end();
    }
    SECTION("by RST, once the messages are across") {
        REQUIRE(rig.until([&] { return rig.local.got.size() == 35'000; }));
        rig.peer.socket.reset();
    }
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(rig.local.got.size() == 35'000);
    CHECK(rig.local.broken == asio::error::connection_reset);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("what came before a reset is delivered even if we were sending", "[net][forwarder]") {
    Rig rig;
    rig.local.write(pattern(100));  // waits to be read and sent
    rig.peer.say(pattern(30'000));
    rig.peer.socket.reset();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(test::same(rig.local.got, pattern(30'000)));
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("a reset waits until a slow local side has taken what was delivered", "[net][forwarder]") {
    ForwarderLimits limits;
    limits.drain = 1h;
    Rig rig(true, limits);
    rig.local.stream.set_option(asio::socket_base::receive_buffer_size(4'096));
    for (int i = 0; i < 4; ++i) {
        rig.peer.say(pattern(50'000));
        test::run_ready(rig.context);
    }
    rig.peer.socket.end();
    rig.context.restart();
    rig.context.run_for(100ms);  // the tunnel's end is seen, and most of it lies with the kernel still
    CHECK(rig.done.empty());
    REQUIRE(test::run_until(rig.context, [&] {
        rig.local.read();
        return !rig.done.empty() && (rig.local.ended || rig.local.broken);
    }));
    CHECK(rig.local.got.size() == 200'000);
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("a local side that never takes what was delivered is reset at the drain's deadline",
          "[net][forwarder]") {
    ForwarderLimits limits;
    limits.drain = 50ms;
    Rig rig(true, limits);
    rig.local.stream.set_option(asio::socket_base::receive_buffer_size(4'096));
    for (int i = 0; i < 4; ++i) {
        rig.peer.say(pattern(50'000));
        test::run_ready(rig.context);
    }
    rig.peer.socket.end();
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::tunnel_cut);
}

TEST_CASE("a message after the end of stream is an error", "[net][forwarder]") {
    Rig rig;
    rig.peer.say(pattern(10));
    rig.peer.say({});
    const auto late = GENERATE(0, 5);
    rig.peer.say(pattern(static_cast<std::size_t>(late)));
    REQUIRE(rig.until([&] { return !rig.done.empty() && (rig.local.ended || rig.local.broken); }));
    CHECK(rig.local.got == pattern(10));
    CHECK(rig.done[0].ending == Ending::after_end);
    CHECK(rig.done[0].bytes_down == 10);
}

TEST_CASE("a message that does not open ends the connection, what came before is delivered",
          "[net][forwarder]") {
    Rig rig;
    rig.peer.say(pattern(10));
    Buffer bad = rig.peer.frame(pattern(20));
    Ending ending = Ending::bad_message;
    SECTION("changed on the way") {
        bad.back() = static_cast<Byte>(bad.back() ^ 1);
    }
    SECTION("repeated") {
        rig.peer.socket.write(bad);
    }
    SECTION("one left out") {
        bad = rig.peer.frame(pattern(5));
    }
    SECTION("its length is that of no message") {
        const auto length = GENERATE(0, 1, 7, 8, 31);
        bad = {0, static_cast<Byte>(length)};
        ending = Ending::bad_length;
    }
    rig.peer.socket.write(bad);
    REQUIRE(rig.until([&] { return !rig.done.empty() && (rig.local.ended || rig.local.broken); }));
    CHECK(rig.local.broken == asio::error::connection_reset);
    CHECK(rig.local.got.size() >= 10);
    CHECK(rig.done[0].ending == ending);
}

TEST_CASE("frames may come in single bytes", "[net][forwarder]") {
    Rig rig;
    Buffer bytes = rig.peer.frame(pattern(50));
    const auto second = rig.peer.frame({});
    bytes.insert(bytes.end(), second.begin(), second.end());
    for (const Byte byte : bytes) {
        rig.peer.socket.write(Buffer{byte});
        test::run_ready(rig.context);
    }
    REQUIRE(rig.until([&] { return rig.local.ended; }));
    CHECK(rig.local.got == pattern(50));
}

TEST_CASE("a local side that resets ends the tunnel without an end of stream", "[net][forwarder]") {
    Rig rig;
    rig.local.write(pattern(10));
    REQUIRE(rig.until([&] { return rig.peer.all_text().size() == 10; }));
    rig.local.reset();
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && (rig.peer.socket.ended || rig.peer.socket.broken);
    }));
    CHECK(rig.done[0].ending == Ending::plain_reset);
    for (const auto& message : rig.peer.messages) CHECK_FALSE(message.empty());
}

TEST_CASE("what a local side sent before it reset reaches the peer, and no end of stream",
          "[net][forwarder]") {
    const bool tcp = GENERATE(true, false);
    Rig rig(tcp);
    const auto reply = pattern(90'000);
    SECTION("if it is written to first") {
        rig.peer.say(pattern(10));
        REQUIRE(rig.local.write(reply) == reply.size());
        rig.local.reset();
    }
    SECTION("if it is read first") {
        REQUIRE(rig.local.write(reply) == reply.size());
        rig.local.reset();
        rig.peer.say(pattern(10));
    }
    REQUIRE(test::run_until(rig.context, [&] {
        rig.peer.read();
        return !rig.done.empty() && (rig.peer.socket.ended || rig.peer.socket.broken);
    }));
    CHECK(test::same(rig.peer.all_text(), reply));
    // A unix socket that is closed when it has read everything ends in order.
    if (tcp) CHECK_FALSE(rig.peer.messages.back().empty());
    CHECK(rig.done[0].ending == Ending::plain_reset);
}

TEST_CASE("a peer that does not read holds what a lost local side sent for a drain at most",
          "[net][forwarder]") {
    ForwarderLimits limits;
    limits.drain = 50ms;
    Rig rig(true, limits);
    const auto chunk = pattern(50'000);
    int idle = 0;
    REQUIRE(test::run_until(rig.context, [&] {
        idle = rig.local.write(chunk) == 0 ? idle + 1 : 0;
        return idle > 20;
    }));
    rig.local.reset();
    rig.peer.say(pattern(10));
    REQUIRE(test::run_until(rig.context, [&] { return !rig.done.empty(); }));
    CHECK(rig.done[0].ending == Ending::plain_reset);
}

TEST_CASE("an urgent byte stays in the stream", "[net][forwarder]") {
    Rig rig(GENERATE(true, false));
    const auto text = pattern(3);
    for (const auto flags : {0, static_cast<int>(MSG_OOB), 0}) {
        REQUIRE(::send(rig.local.stream.native_handle(), text.data(), 1, flags | MSG_NOSIGNAL) == 1);
    }
    REQUIRE(rig.until([&] { return rig.peer.all_text().size() == 3; }));
    rig.local.end();
    REQUIRE(rig.until([&] { return rig.peer.messages.back().empty(); }));
    CHECK(rig.peer.all_text() == Buffer(3, text[0]));
}

TEST_CASE("a plain socket is asked whether its machine is there, within dead-peer", "[net][forwarder]") {
    asio::io_context context;
    auto [near, far] = test::tcp_pair(context);
    io::set_plain_options(near.native_handle(), 80s);
    const auto option = [&socket = near](int level, int name) {
        int value = 0;
        socklen_t size = sizeof value;
        REQUIRE(::getsockopt(socket.native_handle(), level, name, &value, &size) == 0);
        return value;
    };
    CHECK(option(SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(IPPROTO_TCP, TCP_KEEPIDLE) +
              option(IPPROTO_TCP, TCP_KEEPINTVL) * option(IPPROTO_TCP, TCP_KEEPCNT) ==
          80);
    CHECK(loss_of_plain(ETIMEDOUT) == Ending::plain_dead);
    CHECK(loss_of_plain(ECONNRESET) == Ending::plain_reset);
}

}  // namespace
}  // namespace curvegate::forward
