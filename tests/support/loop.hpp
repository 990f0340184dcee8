#pragma once

#include "io/asio.hpp"
#include "support/bytes.hpp"

#include <sys/socket.h>

#include <functional>
#include <utility>

/// Driving an io_context in a test: until something holds, and never for ever.
namespace curvegate::test {

namespace asio = boost::asio;
using boost::system::error_code;

inline constexpr auto kPatience =
    std::chrono::seconds(20);  // for slow machines and sanitizers; nothing waits it out

/// Runs handlers until `done` holds, which may look at sockets too. False: it did not within kPatience.
[[nodiscard]] inline bool run_until(asio::io_context& context, const std::function<bool()>& done) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    context.restart();
    while (!done()) {
        if (std::chrono::steady_clock::now() >= limit) return false;
        context.run_one_for(std::chrono::milliseconds(5));
        if (context.stopped()) context.restart();
    }
    return true;
}

/// Runs what can run now, without waiting.
inline void run_ready(asio::io_context& context) {
    context.restart();
    while (context.poll() != 0) context.restart();
}

/// A non-blocking socket in a test's hands: what came, and how it ended.
struct Local {
    io::Stream stream;
    Buffer got;
    bool ended = false;  ///< in order
    error_code broken;

    /// Reads what is there.
    void read() {
        std::array<Byte, 65'536> chunk{};
        while (!ended && !broken) {
            error_code error;
            const auto size = stream.read_some(asio::buffer(chunk), error);
            if (error == asio::error::would_block) return;
            if (error == asio::error::eof) {
                ended = true;
            } else {
                broken = error;
            }
            got.insert(got.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(size));
        }
    }
    /// Writes what the socket takes. Gives how much that was.
    std::size_t write(Bytes bytes) {
        std::size_t written = 0;
        while (written < bytes.size()) {
            error_code error;
            const auto size =
                stream.write_some(asio::buffer(bytes.data() + written, bytes.size() - written), error);
            if (error) break;
            written += size;
        }
        return written;
    }
    void end() {
        error_code ignored;
        stream.shutdown(io::Stream::shutdown_send, ignored);
    }
    void close() { stream.close(); }
    void reset() {
        stream.set_option(asio::socket_base::linger(true, 0));
        stream.close();
    }
};

inline io::Stream stream_of(asio::io_context& context, int fd, int family) {
    io::Stream out(context);
    out.assign(io::Stream::protocol_type(family, family == AF_UNIX ? 0 : IPPROTO_TCP), fd);
    out.non_blocking(true);
    return out;
}

inline std::pair<io::Stream, io::Stream> unix_pair(asio::io_context& context) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw std::runtime_error("socketpair");
    return {stream_of(context, ends[0], AF_UNIX), stream_of(context, ends[1], AF_UNIX)};
}

/// Both ends of a TCP connection over loopback.
inline std::pair<io::Stream, io::Stream> tcp_pair(asio::io_context& context) {
    io::tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
    io::tcp::socket near(context);
    near.connect(acceptor.local_endpoint());
    io::tcp::socket far = acceptor.accept();
    std::pair<io::Stream, io::Stream> out{io::Stream(std::move(near)), io::Stream(std::move(far))};
    out.first.non_blocking(true);
    out.second.non_blocking(true);
    return out;
}

}  // namespace curvegate::test
