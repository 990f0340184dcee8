#pragma once

#include "base/time.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

/// What the daemon tells about itself, and how that is shown: as tables, as JSON, as metrics. No part of this
/// folder asks anything of the system: a snapshot comes in, a text goes out.
namespace curvegate::status {

/// Bytes of payload since the start.
struct Traffic {
    std::uint64_t bytes_in = 0;   ///< from the tunnel to the application
    std::uint64_t bytes_out = 0;  ///< the other way
};

/// How many sessions of a service may be open at once.
struct SessionLimits {
    std::uint64_t per_service = 0;
    std::uint64_t per_peer = 0;    ///< of a server end; over all services, as the next
    std::uint64_t per_source = 0;  ///< the same
};

/// One of the places that a service leads to.
struct Target {
    std::string address;  ///< as the configuration writes it
    bool up = true;       ///< its last try did not fail
    Duration rests{};     ///< for so long it is asked after the others
};

/// A section of the configuration, over all workers.
struct Service {
    std::string name;
    std::string side;    ///< "server" or "client"
    std::string wire;    ///< the word before the address of the tunnel: "curve_tun" or "curvecp"
    std::string accept;  ///< addresses as the configuration writes them
    std::string connect;
    std::uint64_t sessions = 0;     ///< now
    std::uint64_t accepted = 0;     ///< these and the following: since the start
    std::uint64_t handshakes = 0;   ///< that succeeded
    std::uint64_t truncations = 0;  ///< sessions cut without an authenticated end
    std::uint64_t refused = 0;
    Traffic traffic;
    SessionLimits limits = {};
    std::vector<Target> targets;  ///< those of `connect`, each once
};

/// A name of known_hosts.
struct Peer {
    std::string name;            ///< empty: all keys without a name that `allow = *` let in, summed as one
    std::string key;             ///< text of the public key that it used last; may be empty
    std::uint64_t sessions = 0;  ///< now
    std::uint64_t handshakes = 0;
    Traffic traffic;
    std::optional<WallTime> last_handshake;  ///< nothing: never seen
};

/// A session that is open.
struct Connection {
    std::uint64_t id = 0;
    std::string service;
    std::string peer;
    std::string source;  ///< the other side's address, masked if the configuration says so
    WallTime since;
    Traffic traffic;
    std::string server_key;  ///< of a server end: text of our key that the client knows; empty: not known
};

/// A server key that open sessions use: in a rotation there are two.
struct ServerKey {
    std::string key;  ///< text
    std::uint64_t sessions = 0;
    std::uint64_t peers = 0;
    std::vector<std::string> names;  ///< of these peers, sorted, at most kMostNames
    static constexpr std::size_t kMostNames = 100;
};

/// The workers' connections to the vault.
struct Vault {
    std::uint64_t connected = 0;  ///< workers that have one now
    std::uint64_t workers = 0;    ///< workers that need one
    std::uint64_t lost = 0;       ///< how often one was lost since the start
};

/// Everything at one moment. Counts are since the start unless they say "now".
struct Snapshot {
    WallTime now;
    WallTime started;
    Duration uptime{};  ///< steady time since the start: rates divide by it, no clock step disturbs it
    std::uint64_t generation = 0;
    WallTime loaded;                          ///< when the configuration in force was loaded
    std::optional<std::string> reload_error;  ///< of the last reload, if it failed
    std::string version;
    unsigned workers = 0;
    bool draining = false;
    std::vector<Service> services;        ///< in the order of the configuration
    std::vector<Peer> peers;              ///< in any order that stays
    std::vector<Connection> connections;  ///< may be cut; best the newest
    std::uint64_t connections_left_out = 0;
    std::vector<ServerKey> server_keys;                          ///< the newest first
    std::map<std::string, std::uint64_t, std::less<>> refusals;  ///< by our own fixed reasons
    Vault vault;
    Duration cookie_key_age{};
    std::uint64_t half_open = 0;       ///< handshakes now
    std::uint64_t sessions_limit = 0;  ///< over all services; 0: not known, as the following
    std::uint64_t half_open_limit = 0;
    std::uint64_t half_open_per_source = 0;
    std::uint64_t hellos_answered = 0;
    std::uint64_t hellos_dropped = 0;
    std::uint64_t datagrams_in = 0;  ///< from tunnels to applications, as bytes_in
    std::uint64_t datagrams_out = 0;
    std::uint64_t datagrams_dropped = 0;
    std::uint64_t revocations = 0;
    std::uint64_t reloads = 0;  ///< that succeeded
    std::uint64_t reload_failures = 0;
    std::uint64_t audit_failures = 0;
};

/// A second's worth.
struct Rate {
    double bytes_in = 0;
    double bytes_out = 0;
    double handshakes = 0;
};
struct Rates {
    std::map<std::string, Rate, std::less<>> services;  ///< by name
    std::map<std::string, Rate, std::less<>> peers;
    Rate total;  ///< of all services
};

/// What went on between two snapshots of one daemon. A counter that fell (a session moved from the open ones
/// to the ended ones in between) counts as still. Two daemons, or no time in between: all rates are zero.
[[nodiscard]] Rates rates(const Snapshot& before, const Snapshot& after);

}  // namespace curvegate::status
