#pragma once

#include "forward/forwarding.hpp"
#include "guard/admission.hpp"
#include "guard/counters.hpp"
#include "handshake/machine.hpp"
#include "io/dial.hpp"
#include "os/socket.hpp"
#include "registry/registry.hpp"
#include "serve/audit.hpp"
#include "service/service.hpp"
#include "tunnel/wire.hpp"
#include "vault/protocol/protocol.hpp"

#include <algorithm>
#include <memory>
#include <string>

namespace curvegate::serve {

using service::PlainSide;
using service::Side;

/// One of the places that a service leads to.
struct ServiceTarget {
    io::Target address;
    std::string peer;  ///< client: whose key must answer there
    std::string text;  ///< as the configuration writes the address
};

/// One section of the configuration, as the network part needs it.
struct ServiceSpec {
    guard::ServiceId id{};  ///< that its sessions belong to, whatever a reload makes of it
    std::string name;
    Side side = Side::server;
    const tunnel::Wire* wire = nullptr;  ///< never null in a service that runs
    PlainSide plain = PlainSide::stream;
    std::vector<ServiceTarget> targets;     ///< never empty
    std::vector<std::string> target_texts;  ///< of each
    service::Failover failover = service::Failover::prio;
    std::string peer;           ///< client: its peers, for the log
    registry::AllowList allow;  ///< server
    service::WireOptions options;
    service::Proxy proxy = service::Proxy::none;  ///< server, streams
    std::vector<IpBlock> proxy_from;  ///< server over tcp: fronts whose connections begin with one
    std::uint16_t accept_port = 0;    ///< server over udp: the destination that a PROXY header names
    service::Limits limits;           ///< `flows`: this worker's share
    std::size_t sessions = service::kMostSessions;  ///< at once, over all services
    Duration drain = service::kDrain;  ///< for what was delivered before a reset of the plain side
    std::shared_ptr<guard::ServiceCounters> counters = std::make_shared<guard::ServiceCounters>();

    /// Client: does a target expect this peer?
    [[nodiscard]] bool expects(std::string_view server) const {
        return std::ranges::find(targets, server, &ServiceTarget::peer) != targets.end();
    }
    [[nodiscard]] service::Transport transport() const noexcept { return wire->transport(); }
    /// How many sessions may be at once.
    [[nodiscard]] guard::SessionMost most() const noexcept {
        return {limits.sessions_per_peer, limits.sessions_per_source, limits.sessions_per_service, sessions};
    }
    void lead_to(ServiceTarget target) {
        target_texts.push_back(target.text);
        targets.push_back(std::move(target));
    }
};
using SpecPtr = std::shared_ptr<const ServiceSpec>;

/// Where a worker listens, and what is behind it: one service, but for a server's UDP port, which several
/// may share.
struct Door {
    std::string key;  ///< by which it is the same door after a reload
    std::vector<SpecPtr> specs;
    std::vector<os::UniqueFd> sockets;  ///< empty: those that it has. A server's UDP port has two; of streams
                                        ///< there may be several
};

/// A server key of ours. In a rotation the new one has the next slot (modulo vault::kServerSlots).
struct ServerKey {
    vault::KeySlot slot;
    crypto::PublicKey key;
};

/// One connection as it is now, for `status`.
struct SessionReport {
    std::uint64_t id = 0;  ///< no other since the start has it
    std::string service;
    std::string peer;
    std::string source;
    Duration lasted{};
    std::uint64_t bytes_in = 0;           ///< from the tunnel to the application
    std::uint64_t bytes_out = 0;          ///< the other way
    std::optional<ServerKey> server_key;  ///< server end: the key that the client knows us by, if known yet
};

/// What all workers share; every member is immutable or locks itself.
struct Shared {
    std::shared_ptr<guard::Admission> admission;
    std::shared_ptr<guard::SessionLimits> sessions;
    std::shared_ptr<guard::Counters> counters;
    io::Resolver* resolver = nullptr;
    handshake::Timeouts timeouts;
    crypto::Locking locking = crypto::Locking::require;
    std::shared_ptr<Audit> audit = std::make_shared<NoAudit>();
    io::AddressForm addresses = io::AddressForm::full;  ///< of peers, wherever they are shown
};

}  // namespace curvegate::serve
