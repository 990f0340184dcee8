#pragma once

#include "base/time.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace curvegate::service {

enum class Side { client, server };  ///< client: plain in, tunnel out; server: tunnel in, plain out

/// What an application sees on the plain side.
enum class PlainSide { stream, datagrams, records };

/// How the end of one direction is told to the peer (PROTOCOL 5.4).
enum class EndOfStream {
    message,  ///< an authenticated empty message; a bare FIN is a truncation
    close,    ///< for foreign peers: FIN ends both directions
};

/// How a connection chooses among several targets.
enum class Failover {
    prio,         ///< in the order of the file, those that failed lately last
    round_robin,  ///< each connection begins with the next one
};

/// What an application is told of its clients.
enum class Proxy {
    none,
    v2,  ///< a header of version 2 of the PROXY protocol before their bytes
};

/// What some wires let a service set; a wire that has no use for a member does not look at it.
struct WireOptions {
    EndOfStream end_of_stream = EndOfStream::message;  ///< curve_tun
    /// curvecp: the service at the server, a domain name; server end: nullopt answers to any.
    std::optional<std::string> server_name;
    std::array<std::uint8_t, 16> server_extension{};  ///< curvecp: that tells servers of one address apart
    std::array<std::uint8_t, 16> client_extension{};  ///< curvecp: the same of clients
    friend bool operator==(const WireOptions&, const WireOptions&) = default;
};

/// What a service may set for itself.
struct Limits {
    Duration connect_timeout = std::chrono::seconds(10);  ///< name, connection and handshake together
    Duration idle_timeout = std::chrono::hours(12);
    Duration dead_peer = std::chrono::seconds(60);
    std::optional<Duration> max_session;       ///< nullopt: no bound
    std::size_t sessions_per_peer = 16'384;    ///< server: of one key, over all services
    std::size_t sessions_per_source = 65'536;  ///< server: of one IPv4 address or IPv6 /64, over all services
    std::size_t sessions_per_service = 131'072;
    Duration flow_idle = std::chrono::seconds(60);  ///< client end with datagrams: how long a source may rest
    std::size_t flows = 1'024;                      ///< the same: sources at once
    friend bool operator==(const Limits&, const Limits&) = default;
};

/// Sessions at once, over all services.
inline constexpr std::size_t kMostSessions = 250'000;
/// How long what was delivered may take before a reset of the plain side, and sessions to end in peace.
inline constexpr Duration kDrain = std::chrono::seconds(5);

/// Budgets against strangers (they bite under load only; the half-open caps always).
struct Admission {
    double handshake_rate = 64;  ///< unfinished handshakes a second a source
    std::size_t handshake_burst = 2'048;
    std::size_t half_open_per_source = 2'048;
    std::size_t half_open = 16'384;
    friend bool operator==(const Admission&, const Admission&) = default;
};

/// How long a handshake waits for what.
struct Timeouts {
    Duration hello = std::chrono::seconds(5);
    Duration vouch = std::chrono::seconds(5);
    Duration vault = std::chrono::seconds(5);
    friend bool operator==(const Timeouts&, const Timeouts&) = default;
};

}  // namespace curvegate::service
