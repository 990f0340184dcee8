#pragma once

#include "io/udp_socket.hpp"
#include "support/bytes.hpp"

#include <catch2/catch.hpp>

namespace curvegate::test {

namespace asio = boost::asio;
using boost::system::error_code;

inline const auto kLoopback = IpAddress::from_v4(ByteArray<4>{127, 0, 0, 1});

/// An application's UDP socket.
struct App {
    io::udp::socket socket;
    std::vector<Buffer> got;
    io::udp::endpoint last_from;

    explicit App(asio::io_context& context) : socket(context, {asio::ip::address_v4::loopback(), 0}) {
        socket.non_blocking(true);
        socket.set_option(asio::socket_base::receive_buffer_size(4 << 20));
    }
    [[nodiscard]] std::uint16_t port() const { return socket.local_endpoint().port(); }
    [[nodiscard]] std::string name() const { return "127.0.0.1:" + std::to_string(port()); }
    void say(Bytes datagram, std::uint16_t to) {
        const io::udp::endpoint where(asio::ip::address_v4::loopback(), to);
        REQUIRE(socket.send_to(asio::buffer(datagram.data(), datagram.size()), where) == datagram.size());
    }
    void read() {
        Buffer bytes(65'536);
        for (;;) {
            error_code error;
            const auto size = socket.receive_from(asio::buffer(bytes), last_from, 0, error);
            if (error) return;
            got.emplace_back(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        }
    }
};

}  // namespace curvegate::test
