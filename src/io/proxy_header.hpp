#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "io/asio.hpp"
#include "wire/proxy_protocol.hpp"

#include <functional>
#include <memory>
#include <optional>

/// The PROXY protocol on sockets (docs/guides/proxy-protocol.md).
namespace curvegate::io {

/// Mostly the front's fault. Response: its connection is closed, and handshake_reject says why, but for
/// only_asked and not_written.
enum class ProxyErrc {
    timeout = 1,  ///< the front did not send a whole header in time, or one without addresses and no more
    closed,       ///< the front closed before it had
    only_asked,   ///< no fault: a header without addresses and then the end, so a front checks our health
    too_many,     ///< as many wait already as ProxyHeaders lets
    no_front,     ///< a reload took the front out of proxy-from while its header was awaited
    not_written,  ///< the application did not take our header; the session ends, as one whose dial failed
};
[[nodiscard]] constexpr std::string_view layer_name(ProxyErrc) {
    return "proxy_header";
}
[[nodiscard]] constexpr std::string_view describe(ProxyErrc code) {
    switch (code) {
        case ProxyErrc::timeout: return "no whole PROXY header, or nothing after it, in time";
        case ProxyErrc::closed: return "connection was closed before a whole PROXY header";
        case ProxyErrc::only_asked: return "a front's check of health";
        case ProxyErrc::too_many: return "too many connections whose PROXY header is awaited";
        case ProxyErrc::no_front: return "the front is not in proxy-from any more";
        case ProxyErrc::not_written: return "cannot write the PROXY header";
    }
    return "unknown";
}

/// A connection whose header was read. What followed the header is still in the socket.
struct ProxiedStream {
    Stream stream;
    /// nullopt if the connection's own addresses count (wire::proxy::Header).
    std::optional<wire::proxy::Addresses> addresses;
};

/// A worker's connections from trusted fronts, until their header is there. No byte beyond it is read.
class ProxyHeaders {
  public:
    /// At most `most` wait at once: a front that sends no headers cannot take every descriptor.
    explicit ProxyHeaders(std::size_t most = 4'096) : most_(most) {}

    using DoneFn = std::move_only_function<void(Result<ProxiedStream>)>;
    /// `done` is called once, never from within, unless the context ends before. On an error the connection
    /// is closed. Errors: wire::proxy no_header, malformed, too_long; timeout, closed, only_asked,
    /// too_many.
    void read(Stream stream, Instant deadline, DoneFn done);
    [[nodiscard]] std::size_t waiting() const noexcept { return *waiting_; }

  private:
    std::size_t most_;
    std::shared_ptr<std::size_t> waiting_ = std::make_shared<std::size_t>(0);
};

/// Between whom a TCP connection goes, as its socket says; nothing if it is broken or none of IP.
[[nodiscard]] std::optional<wire::proxy::Addresses> addresses_of(const Stream& stream);

/// Writes a header as the first bytes of a connection to an application: all of it at once, as PP 2 asks for.
/// Error: not_written.
[[nodiscard]] Result<> write_proxy_header(Stream& plain, const wire::proxy::Introduction& introduction);

}  // namespace curvegate::io
