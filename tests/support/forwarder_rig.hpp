#pragma once

#include "forward/byte_forwarder.hpp"
#include "io/socket_options.hpp"
#include "support/loop.hpp"
#include "support/secrets.hpp"
#include "tunnel/curve_tun/bytes.hpp"

#include <catch2/catch.hpp>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

/// A forwarder of bytes over curve_tun with both its sides in a test's hands.
namespace curvegate::test {

using StreamPair = std::pair<io::Stream, io::Stream>;

inline crypto::SharedKey tunnel_key() {
    return secret_number<crypto::SharedKey>(1);
}

/// A local socket and the forwarder's, which has its options.
inline StreamPair plain_pair(asio::io_context& context, bool tcp) {
    StreamPair out = tcp ? tcp_pair(context) : unix_pair(context);
    io::set_plain_options(out.second.native_handle(), std::chrono::seconds(60));
    return out;
}

/// The other end of a tunnel, which may do what no forwarder does.
struct FramePeer {
    Local socket;
    session::curve_tun::Session session =
        *session::curve_tun::Session::create(session::Role::client, tunnel_key());
    std::vector<Buffer> messages;
    Buffer unread;

    [[nodiscard]] Buffer frame(Bytes text) {
        Buffer out(session::curve_tun::kFrameOverhead);
        out.insert(out.end(), text.begin(), text.end());
        REQUIRE(session.seal_frame(out).has_value());
        return out;
    }
    void say(Bytes text) {
        const auto bytes = frame(text);
        REQUIRE(socket.write(bytes) == bytes.size());
    }
    void read() {
        socket.read();
        unread.insert(unread.end(), socket.got.begin(), socket.got.end());
        socket.got.clear();
        while (unread.size() >= 2) {
            const std::size_t size = load_be<std::uint16_t>(Bytes(unread).first<2>());
            if (unread.size() < 2 + size) return;
            Buffer packet(unread.begin() + 2, unread.begin() + static_cast<std::ptrdiff_t>(2 + size));
            unread.erase(unread.begin(), unread.begin() + static_cast<std::ptrdiff_t>(2 + size));
            const auto text = session.open_packet(packet);
            REQUIRE(text.has_value());
            messages.push_back(copy_of(*text));
        }
    }
    [[nodiscard]] Buffer all_text() const {
        Buffer out;
        for (const auto& message : messages) out.insert(out.end(), message.begin(), message.end());
        return out;
    }
};

/// One forwarder between a local socket and a hand-driven peer.
struct ForwarderRig {
    explicit ForwarderRig(bool tcp = true, const forward::ForwarderLimits& with = {}, std::uint64_t first = 2,
                          const tunnel::curve_tun::TcpBytes::Options& options = {})
        : plain(plain_pair(context, tcp)),
          tunnel(tcp_pair(context)),
          local{std::move(plain.first), {}, false, {}},
          peer{{std::move(tunnel.first), {}, false, {}},
               *session::curve_tun::Session::create(session::Role::client, tunnel_key(), {{first}, {first}}),
               {},
               {}},
          forwarder(std::make_shared<forward::ByteForwarder>(
              std::move(plain.second),
              std::make_unique<tunnel::curve_tun::TcpBytes>(
                  std::move(tunnel.second),
                  *session::curve_tun::Session::create(session::Role::server, tunnel_key(),
                                                       {{first}, {first}}),
                  options, scratch),
              with)) {
        forwarder->start([this](const forward::ForwarderSummary& summary) { done.push_back(summary); });
    }

    asio::io_context context;
    tunnel::Scratch scratch;
    StreamPair plain;
    StreamPair tunnel;
    Local local;
    FramePeer peer;
    std::shared_ptr<forward::ByteForwarder> forwarder;
    std::vector<forward::ForwarderSummary> done;

    [[nodiscard]] bool until(const std::function<bool()>& holds) {
        return run_until(context, [&] {
            local.read();
            peer.read();
            return holds();
        });
    }
    [[nodiscard]] bool over() {
        return until([&] {
            return !done.empty() && (local.ended || local.broken) &&
                   (peer.socket.ended || peer.socket.broken);
        });
    }
};

}  // namespace curvegate::test
