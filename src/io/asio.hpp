#pragma once

#include "base/path.hpp"
#include "io/clock.hpp"

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

namespace curvegate {
namespace asio = boost::asio;
using boost::system::error_code;
}  // namespace curvegate

namespace curvegate::io {

using tcp = asio::ip::tcp;
using udp = asio::ip::udp;

/// A connected stream socket, TCP or unix; always non-blocking.
using Stream = asio::generic::stream_protocol::socket;

struct WaitTraits : asio::wait_traits<Clock> {
    using asio::wait_traits<Clock>::to_wait_duration;
    [[nodiscard]] static Duration to_wait_duration(const Duration& wait) { return sleep_for(wait); }
};
/// Whatever waits for a time waits by this: a steady_timer that keeps to now().
using Timer = asio::basic_waitable_timer<Clock, WaitTraits>;

[[nodiscard]] IpAddress address_of(const tcp::endpoint& endpoint);
[[nodiscard]] tcp::endpoint endpoint_of(const ScopedIp& address, std::uint16_t port);
[[nodiscard]] IpEndpoint ip_endpoint_of(const tcp::endpoint& endpoint);

/// How the address of a peer is shown in logs, status and audit.
enum class AddressForm {
    full,    ///< with its port: IpEndpoint::text()
    masked,  ///< its network: "1.2.3.0/24" or "2001:db8:1::/48"
};
[[nodiscard]] std::string source_text(const IpEndpoint& endpoint, AddressForm form);

}  // namespace curvegate::io
