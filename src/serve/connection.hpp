#pragma once

#include "forward/flows.hpp"
#include "forward/forwarding.hpp"
#include "io/clock.hpp"
#include "log/log.hpp"
#include "serve/service.hpp"
#include "wire/proxy_protocol.hpp"

#include <memory>
#include <optional>
#include <string>

namespace curvegate::serve {

class Sessions;

/// A door that was open at a worker; no other ever had its number.
enum class DoorId : std::uint64_t {};
inline constexpr DoorId kNoDoor{0};

/// Calls `log` with the fields that tell which connection it is.
template <class Log>
void log_of(const ServiceSpec& spec, const forward::Flows::Who& who, const Log& log) {
    const log::Field service{"service", spec.name};
    const log::Field peer{"peer", who.peer};
    const log::Field source{"src", who.source};
    const log::Field session{"session", who.session};
    if (who.target.empty()) return log(service, peer, source, session);
    log(service, peer, source, log::Field{"target", who.target}, session);
}

/// One forwarded connection from accept to end: who it is, what it holds, and its forwarder once both sides
/// are there.
class Connection : public std::enable_shared_from_this<Connection> {
  public:
    /// `sessions` outlives it.
    Connection(Sessions& sessions, SpecPtr service, std::string source_text);

    const std::string source;
    std::string peer;                              ///< its name, or its key where it has none
    std::optional<crypto::PublicKey> key;          ///< that it has proven and may use
    std::optional<crypto::PublicKey> refused_key;  ///< that it has proven and may not use
    std::string_view refused_for;                  ///< why: fixed words; empty: it did not come that far
    IpAddress address{};                           ///< server end: where it came from
    DoorId door = kNoDoor;                         ///< server end over udp: by which its packets come
    std::optional<vault::KeySlot> server_key;      ///< server end: of our keys the one that the client knows
    const crypto::PublicKey* server_public =
        nullptr;  ///< the same, once the vault has said; the server end's
    std::shared_ptr<const guard::SessionLimits::Slot> slot;  ///< its place, which its tunnel may hold longer
    std::optional<Error> turned_away;  ///< it may come, but there is no place: a limit, or the audit
    std::optional<wire::proxy::Addresses> addresses;  ///< server end: of the client, for a PROXY header
    std::string target;                               ///< of several the one that answered

    void forward(io::Stream plain, std::unique_ptr<tunnel::ByteTunnel> tunnel);
    void forward_datagrams(os::UniqueFd plain, std::unique_ptr<tunnel::DatagramPipe> pipe);
    void forward_records(io::Stream plain, std::unique_ptr<tunnel::MessagePipe> pipe);

    /// By which it runs: as the service was when it proved its key. Its sessions are judged by what a reload
    /// makes of it, Sessions::service_now().
    [[nodiscard]] const ServiceSpec& spec() const { return *spec_; }
    [[nodiscard]] SpecPtr service() const { return spec_; }
    /// As the service is now, or as it was before a reload took it away.
    [[nodiscard]] const ServiceSpec& shown() const;
    /// From here on it runs by `spec`, of the same service.
    void follow(SpecPtr spec) { spec_ = std::move(spec); }
    [[nodiscard]] forward::Flows::Who who() const { return {source, peer, key, target, id_}; }
    /// `reached` answered.
    void found(const ServiceTarget& reached) {
        if (spec_->targets.size() > 1) target = reached.text;
    }
    /// From here on its place among the sessions is taken as long as the tunnel has memory.
    void runs_over(tunnel::Tunnel& tunnel);
    void log_handshake() const;
    /// What the application is told of the client. A key without a name has none.
    [[nodiscard]] wire::proxy::Introduction introduction() const {
        const bool named = key && peer != key->text();
        return {addresses, named ? std::string_view(peer) : std::string_view(), key, shown().name};
    }
    /// Ends it, now or as soon as both sides are there.
    void cut(forward::Ending why);
    /// The same by a decision that is written down, with its reason: fixed words.
    void cut(forward::Ending why, std::string_view decided);
    [[nodiscard]] bool is_cut() const { return cut_.has_value() || !decided_.empty(); }
    /// With the key that it has proven, welcome or not.
    [[nodiscard]] AuditRecord record(std::string_view reason) const;
    void sweep(Instant at);
    [[nodiscard]] Duration shortest_limit() const;
    [[nodiscard]] SessionReport report(Instant at) const;

  private:
    [[nodiscard]] forward::ForwarderLimits limits() const;
    void run(const std::shared_ptr<forward::ForwarderBase>& forwarder);
    void ended(const forward::ForwarderSummary& summary);
    void drop_tunnel();

    SpecPtr spec_;
    std::uint64_t id_;
    Sessions& sessions_;
    std::shared_ptr<forward::ForwarderBase> forwarder_;
    std::weak_ptr<tunnel::Remains> remains_;
    Instant since_ = io::now();
    std::optional<forward::Ending> cut_;  // before its forwarder was there
    std::string_view decided_;            // why it was ended; empty: nobody decided that
};

}  // namespace curvegate::serve
