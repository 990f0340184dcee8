#include "support/loop.hpp"
#include "support/secrets.hpp"
#include "support/tunnels.hpp"
#include "tunnel/curve_tun/bytes.hpp"
#include "tunnel/curvecp/bytes.hpp"

#include <catch2/catch.hpp>

/// What a ByteTunnel promises, whatever its wire.
namespace curvegate::tunnel {
namespace {

using test::Buffer;

/// A tunnel's user, who does not remember that it has ended.
struct User {
    ByteTunnel& tunnel;
    std::vector<End> ends;

    explicit User(ByteTunnel& of) : tunnel(of) {
        tunnel.on_end = [this](End why) { ends.push_back(why); };
        tunnel.start();
    }
    [[nodiscard]] Buffer read() const {
        Buffer out;
        for (auto parts = tunnel.readable(); !parts.empty(); parts = tunnel.readable()) {
            const iovec part = parts.front();
            const auto* const begin = static_cast<const Byte*>(part.iov_base);
            out.insert(out.end(), begin, begin + part.iov_len);
            tunnel.consume(part.iov_len);
        }
        return out;
    }
    void ask_for_everything() const {
        CHECK(tunnel.prepare().empty());
        tunnel.flush();
        CHECK(read() == Buffer{1, 2, 3});
        tunnel.flush();
        tunnel.finish();
        tunnel.flush();
        tunnel.fail_after_all();
        tunnel.flush();
        tunnel.abort();
        CHECK(tunnel.prepare().empty());
    }
};

TEST_CASE("a stream's tunnel that has ended sends nothing, whatever it is asked", "[net][byte_tunnels]") {
    asio::io_context context;
    test::TunnelPair tunnels(context);
    curvecp::StreamBytes bytes(tunnels.near_end());
    User user(bytes);
    const Buffer come{1, 2, 3};
    std::ranges::copy(come, tunnels.far->stream().prepare().begin());
    tunnels.far->stream().commit(come.size());
    tunnels.far->flush();
    REQUIRE(test::run_until(context, [&] { return tunnels.near->stream().received() == come.size(); }));
    CHECK_FALSE(bytes.prepare().empty());
    tunnels.near->end(End::dead_peer);
    const int flushed = tunnels.near->flushed;
    user.ask_for_everything();
    CHECK(tunnels.near->flushed == flushed);
    CHECK(user.ends == std::vector{End::dead_peer});
}

TEST_CASE("a TCP tunnel that has ended sends nothing, whatever it is asked", "[net][byte_tunnels]") {
    using session::curve_tun::Session;
    asio::io_context context;
    Scratch scratch;
    auto sockets = test::tcp_pair(context);
    test::Local peer{std::move(sockets.first), {}, false, {}};
    auto sender = *Session::create(session::Role::client, test::secret_number<crypto::SharedKey>(1));
    curve_tun::TcpBytes bytes(
        std::move(sockets.second),
        *Session::create(session::Role::server, test::secret_number<crypto::SharedKey>(1)), {}, scratch);
    User user(bytes);
    CHECK_FALSE(bytes.prepare().empty());
    bytes.commit(0);
    Buffer frame(session::curve_tun::kFrameOverhead);
    frame.insert(frame.end(), {1, 2, 3});
    REQUIRE(sender.seal_frame(frame).has_value());
    const Buffer again = frame;
    frame.insert(frame.end(), again.begin(), again.end());  // which is out of order
    REQUIRE(peer.write(frame) == frame.size());
    REQUIRE(test::run_until(context, [&] { return !user.ends.empty(); }));
    user.ask_for_everything();
    REQUIRE(test::run_until(context, [&] {
        peer.read();
        return peer.ended || peer.broken;
    }));
    CHECK(peer.got.empty());
    CHECK(user.ends == std::vector{End::bad_message});
}

}  // namespace
}  // namespace curvegate::tunnel
