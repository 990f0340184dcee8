#pragma once

#include "serve/connection.hpp"

#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace curvegate::serve {

/// The connections of one worker, of both ends of all its services: who may be here, who is, and what is
/// counted of them. One thread.
class Sessions {
  public:
    using RegistryPtr = std::shared_ptr<const registry::Registry>;

    /// `lent` is what their tunnels borrow.
    Sessions(Shared shared, tunnel::Environment lent);

    /// A connection or a flow has come: the worker may have to sweep again.
    std::function<void()> on_arrival;

    [[nodiscard]] const Shared& shared() const noexcept { return shared_; }
    [[nodiscard]] const tunnel::Environment& lent() const noexcept { return lent_; }

    // ---- who may be here ----

    void set_registry(RegistryPtr registry) { registry_ = std::move(registry); }
    [[nodiscard]] const registry::Registry& registry() const noexcept { return *registry_; }
    void set_services(const std::vector<Door>& doors);
    /// The service as it is now; null: a reload took it away.
    [[nodiscard]] SpecPtr service_now(guard::ServiceId id) const;
    /// Is the key one of the peer's that are good now?
    [[nodiscard]] bool is_pinned(const std::string& peer, const crypto::PublicKey& key) const;
    /// Why a connection may not go on.
    struct Unwelcome {
        forward::Ending ending;
        std::string_view why;  // fixed words
    };
    /// Returns nullopt if it may, seen at that address.
    [[nodiscard]] std::optional<Unwelcome> unwelcome(const Connection& connection,
                                                     const IpAddress& source) const;
    /// The same where it came from.
    [[nodiscard]] std::optional<Unwelcome> unwelcome(const Connection& connection) const {
        return unwelcome(connection, connection.address);
    }
    /// Ends those that may not go on, and gives how many.
    [[nodiscard]] std::size_t end_unwelcome() const;
    /// Has it a name in known_hosts? What a table of peers may hold: a key that has none is no word of ours.
    [[nodiscard]] std::string known_name(const std::string& peer) const;

    // ---- who is here ----

    void add(const std::shared_ptr<Connection>& connection);
    void remove(const std::shared_ptr<Connection>& connection);
    [[nodiscard]] std::vector<std::shared_ptr<Connection>> all() const;
    [[nodiscard]] bool empty() const noexcept { return connections_.empty(); }
    /// Returns false if a limit is reached, and noted at the connection.
    [[nodiscard]] bool take_slot(Connection& connection,
                                 const std::optional<guard::SessionLimits::Client>& client);
    /// Waits for what the tunnel still delivers when its user has let go of it. See
    /// tunnel::Tunnel::outlive().
    [[nodiscard]] std::weak_ptr<tunnel::Remains> watch(tunnel::Tunnel& tunnel,
                                                       std::shared_ptr<const void> keep);
    /// Calls `when_empty` once nothing is here any more and nothing is owed to a peer.
    void tell_when_empty(std::function<void()> when_empty);
    /// Ends all, those too that are still dialling.
    void cut_all();

    // ---- what is counted ----

    void came(const ServiceSpec& spec);  ///< somebody has connected
    void session_begins(const ServiceSpec& spec);
    void session_ended(const ServiceSpec& spec, const forward::Flows::Who& who,
                       const forward::ForwarderSummary& summary);

  private:
    void tell_if_empty();

    Shared shared_;
    tunnel::Environment lent_;
    RegistryPtr registry_;
    std::unordered_map<guard::ServiceId, SpecPtr> services_;
    std::unordered_set<std::shared_ptr<Connection>> connections_;
    std::function<void()> when_empty_;
    std::size_t undelivered_ = 0;  // tunnels whose peers do not have everything yet
};

}  // namespace curvegate::serve
