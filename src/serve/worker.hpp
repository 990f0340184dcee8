#pragma once

#include "cookie/keeper.hpp"
#include "crypto/secret.hpp"
#include "forward/flows.hpp"
#include "forward/forwarding.hpp"
#include "io/chunk_pool.hpp"
#include "io/listener.hpp"
#include "io/proxy_header.hpp"
#include "os/random.hpp"
#include "os/socket.hpp"
#include "serve/service.hpp"
#include "serve/try_targets.hpp"
#include "tunnel/scratch.hpp"
#include "tunnel/wire.hpp"
#include "vault_client/vault_client.hpp"

#include <boost/asio/executor_work_guard.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace curvegate::serve {

/// One thread's share of the daemon: an io_context, locked memory for its secrets, minute keys, a connection
/// to the vault, and every connection that was accepted here, which stays here. Construct and call run() on
/// any one thread; the methods marked so may be called from others.
///
/// worker.cpp has its life, what it listens on and its connections as a whole; worker_server.cpp the server
/// ends of services, worker_client.cpp the client ends.
class Worker {
  public:
    /// Errors: crypto memory_not_locked, secrets_full.
    [[nodiscard]] static Result<std::unique_ptr<Worker>> create(const Shared& shared);
    ~Worker();

    /// Before run(): called on the worker's thread when its connection to the vault ends.
    std::function<void()> on_vault_lost;

    /// Until stop().
    void run() { context_.run(); }

    using RegistryPtr = std::shared_ptr<const registry::Registry>;
    /// Any thread: from here on these are the peers and these the services. A door that was there before
    /// keeps its sockets; one that is not among them any more is closed. A connection belongs to the service
    /// of its number (ServiceId), wherever that listens now and whatever it is called, and is judged by what
    /// that service allows now. It ends if the service is gone, if its key may not be used any more, or if
    /// its packets came by a UDP port that is closed. `done` is called on the worker's thread with how many
    /// those were.
    using AppliedFn = std::move_only_function<void(std::size_t ended)>;
    void apply(RegistryPtr registry, std::vector<Door> doors, AppliedFn done);
    /// The same for the peers alone.
    void apply(RegistryPtr registry, AppliedFn done);

    /// What a worker knows of itself.
    struct Report {
        std::vector<SessionReport> sessions;
        bool has_vault = false;
        Duration cookie_key_age{};
    };
    /// Any thread; `done` is called on the worker's.
    void report(std::move_only_function<void(Report)> done);

    void attach_vault(os::UniqueFd socket);  ///< any thread
    void drain(
        std::function<void()> when_empty);  ///< any thread: accept no more; tell when the last has ended
    void cut();                             ///< any thread: end what is left, with resets
    void stop();                            ///< any thread
    [[nodiscard]] asio::io_context& context() noexcept { return context_; }

  private:
    class Connection;
    class Newcomer;
    friend class Connection;
    friend class Newcomer;
    using Specs = std::vector<SpecPtr>;
    /// A door that was open here; no other ever had its number.
    enum class DoorId : std::uint64_t {};
    static constexpr DoorId kNoDoor{0};

    /// Why a connection may not go on.
    struct Unwelcome {
        forward::Ending ending;
        std::string_view why;  // fixed words
    };

    /// A door that is open here.
    struct Open {
        DoorId id = kNoDoor;
        // Of those who come now; never empty. Who waits for the vault holds it too, and finds what a reload
        // has put there.
        std::shared_ptr<Specs> specs = std::make_shared<Specs>();
        std::vector<std::unique_ptr<io::Listener>> listeners;
        std::unique_ptr<tunnel::Endpoint> endpoint;
        std::unique_ptr<forward::Flows> flows;
    };

    Worker(const Shared& shared, std::unique_ptr<crypto::SecretPool> pool, cookie::Keeper keeper);

    // doors
    [[nodiscard]] std::size_t set_doors(std::vector<Door> doors);
    [[nodiscard]] std::size_t close_all_but(const std::vector<Door>& doors);
    void open(Open& door, std::vector<os::UniqueFd> sockets);
    void listen(Open& door, os::UniqueFd listening);
    void serve_endpoint(Open& door, os::UniqueFd sessions, os::UniqueFd hellos);
    void serve_datagrams(Open& door, os::UniqueFd listening);
    [[nodiscard]] std::size_t end_unwelcome();
    /// Why the connection may not go on; returns nullopt if it may.
    [[nodiscard]] std::optional<Unwelcome> unwelcome(const Connection& connection) const;
    /// The service as it is now; null: a reload took it away.
    [[nodiscard]] SpecPtr service_now(guard::ServiceId id) const;

    // the server end
    void serve_tunnel(SpecPtr spec, io::Stream stream, std::string source, const IpAddress& address);
    /// Does the service take the clients' addresses from there?
    [[nodiscard]] bool is_front(guard::ServiceId id, const IpAddress& address) const;
    void serve_proxied(SpecPtr spec, io::Stream stream, std::string front, const IpAddress& address);
    void shake_hands(const SpecPtr& spec, io::Stream stream, std::string source, const IpAddress& address,
                     const std::optional<wire::proxy::Addresses>& addresses);
    void reach_application(const std::shared_ptr<Connection>& connection,
                           std::unique_ptr<tunnel::Tunnel> tunnel);
    [[nodiscard]] std::optional<std::string> authorise(Connection& connection, const crypto::PublicKey& key,
                                                       const IpAddress& address);
    void refuse(const Connection& connection, const Error& why);
    void let_in(const std::shared_ptr<Connection>& connection);
    void name_server_key(Connection& connection);
    void server_key_is(vault::KeySlot slot, const Result<vault::ReplyBody>& reply);

    // the client end
    void serve_plain(SpecPtr spec, io::Stream stream, std::string source);
    void open_tunnel(const std::shared_ptr<Connection>& connection, io::Stream plain);
    void not_connected(const std::shared_ptr<Connection>& connection, io::Stream plain, const Error& why);
    void open_flow(const SpecPtr& service, const std::string& source, const io::CancellationPtr& cancellation,
                   forward::Flows::DialedFn done);
    [[nodiscard]] static forward::Flows::Limits flow_limits(const ServiceSpec& spec);
    using TunnelTries = TargetTries<std::unique_ptr<tunnel::Tunnel>>;
    void dial_server(const SpecPtr& spec, const std::string& source, const io::CancellationPtr& cancellation,
                     TunnelTries::DoneFn done);
    [[nodiscard]] tunnel::Opener& opener_of(const tunnel::Wire& wire);
    void audit_failure(const ServiceSpec& spec, const ServiceTarget& target, const std::string& source,
                       const Error& why);
    [[nodiscard]] std::vector<crypto::PublicKey> keys_to_try(const ServiceSpec& spec,
                                                             const ServiceTarget& target) const;
    [[nodiscard]] bool is_pinned(const std::string& peer, const crypto::PublicKey& server) const;
    void greeted(const ServiceSpec& spec, const ServiceTarget& target, const crypto::PublicKey& server);
    [[nodiscard]] Result<> may_greet(const ServiceSpec& spec, const ServiceTarget& target,
                                     const crypto::PublicKey& server, const std::string& source);
    void not_greeted(const ServiceSpec& spec, const Error& why);

    // connections
    [[nodiscard]] bool take_slot(Connection& connection,
                                 const std::optional<guard::SessionLimits::Client>& client);
    void session_begins(const ServiceSpec& spec);
    void session_ended(const ServiceSpec& spec, const forward::Flows::Who& who,
                       const forward::ForwarderSummary& summary);
    [[nodiscard]] std::weak_ptr<tunnel::Remains> watch(tunnel::Tunnel& tunnel,
                                                       std::shared_ptr<const void> keep);
    [[nodiscard]] std::string known_name(const std::string& peer) const;
    void tell_if_empty();
    void cycle_cookie_keys();
    void sweep();
    void add(const std::shared_ptr<Connection>& connection);
    void remove(const std::shared_ptr<Connection>& connection);
    [[nodiscard]] std::vector<std::shared_ptr<Connection>> all() const;
    [[nodiscard]] tunnel::Environment lent();

    Shared shared_;
    RegistryPtr registry_;
    std::optional<WallTime> next_expiry_;  // of a line of the registry
    std::unique_ptr<crypto::SecretPool>
        pool_;              // outlives everything that may hold a secret: the queue below too
    io::ChunkPool chunks_;  // outlives every stream
    asio::io_context context_{1};
    asio::executor_work_guard<asio::io_context::executor_type> busy_{context_.get_executor()};
    os::SystemRandom random_;
    cookie::Keeper keeper_;
    vault_client::VaultClient vault_;
    tunnel::Scratch scratch_;
    io::ProxyHeaders proxy_headers_;
    std::map<const tunnel::Wire*, std::unique_ptr<tunnel::Opener>> openers_;  // of the wires that were used
    asio::steady_timer cookie_timer_;
    asio::steady_timer sweep_timer_;
    std::map<std::string, Open> doors_;
    std::uint64_t last_door_ = 0;
    std::unordered_map<guard::ServiceId, SpecPtr> services_;  // those of doors_
    std::unordered_set<crypto::PublicKey> own_keys_;          // one a rotation; connections point to them
    std::map<vault::KeySlot, const crypto::PublicKey*> server_keys_;  // of this vault; null: asked for
    std::unordered_set<std::shared_ptr<Connection>> connections_;
    std::function<void()> when_empty_;
    std::unordered_map<std::string, crypto::PublicKey>
        last_good_;                // which of a peer's keys answered, by service and target
    std::size_t undelivered_ = 0;  // tunnels over udp whose peers do not have everything yet
    bool sweeping_ = false;
    bool draining_ = false;
};

}  // namespace curvegate::serve
