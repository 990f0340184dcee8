#pragma once

#include "support/loop.hpp"
#include "support/secrets.hpp"
#include "support/tunnels.hpp"
#include "tunnel/curve_tun/messages.hpp"
#include "tunnel/curvecp/messages.hpp"

#include <catch2/catch.hpp>

/// Message pipes on either carrier, joined on this machine.
namespace curvegate::test {

using tunnel::MessagePipe;
enum class On { tcp, udp };

/// One end of a tunnel that carries messages, and what it was told.
struct Side {
    std::unique_ptr<MessagePipe> pipe;
    std::vector<Buffer> got;
    std::vector<tunnel::End> ends;
    int drained = 0;
    std::size_t wanted = ~std::size_t{0};  ///< reading pauses after so many

    explicit Side(std::unique_ptr<MessagePipe> with) : pipe(std::move(with)) {
        pipe->on_message = [this](Bytes message) {
            got.push_back(copy_of(message));
            return got.size() < wanted;
        };
        pipe->on_end = [this](tunnel::End end) { ends.push_back(end); };
        pipe->on_drained = [this] { ++drained; };
    }
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;

    void want(std::size_t more) {
        wanted = got.size() + more;
        pipe->resume();
    }
    void say(Bytes message) const { REQUIRE(pipe->send(message).has_value()); }
};

inline std::unique_ptr<MessagePipe> tcp_pipe(io::Stream socket, session::Role role, std::uint64_t first = 2) {
    return std::make_unique<tunnel::curve_tun::TcpMessages>(
        std::move(socket),
        *session::curve_tun::Session::create(role, secret_number<crypto::SharedKey>(1), {{first}, {first}}),
        std::chrono::seconds(60));
}

/// Two pipes that are connected to each other. `first`: the first message number, tcp only.
struct PipePair {
    std::optional<TunnelPair> tunnels;  ///< udp only
    std::unique_ptr<MessagePipe> near;
    std::unique_ptr<MessagePipe> far;

    PipePair(asio::io_context& context, On carrier, std::uint64_t first = 2) {
        if (carrier == On::udp) {
            tunnels.emplace(context);
            near = std::make_unique<tunnel::curvecp::StreamMessages>(tunnels->near_end());
            far = std::make_unique<tunnel::curvecp::StreamMessages>(tunnels->far_end());
            return;
        }
        auto ends = tcp_pair(context);
        near = tcp_pipe(std::move(ends.first), session::Role::client, first);
        far = tcp_pipe(std::move(ends.second), session::Role::server, first);
    }
};

}  // namespace curvegate::test
