#pragma once

#include "cookie/keeper.hpp"
#include "crypto/secret.hpp"
#include "forward/flows.hpp"
#include "io/chunk_pool.hpp"
#include "io/listener.hpp"
#include "os/random.hpp"
#include "os/socket.hpp"
#include "serve/client_end.hpp"
#include "serve/server_end.hpp"
#include "serve/sessions.hpp"
#include "tunnel/scratch.hpp"
#include "vault_client/vault_client.hpp"

#include <boost/asio/executor_work_guard.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace curvegate::serve {

/// One thread's share of the daemon: an io_context, locked memory for its secrets, minute keys, a connection
/// to the vault, and every connection that was accepted here, which stays here. Construct and call run() on
/// any one thread; the methods marked so may be called from others.
/// It listens, and leaves those who come to its ServerEnd or ClientEnd.
class Worker {
  public:
    /// Errors: crypto memory_not_locked, secrets_full.
    [[nodiscard]] static Result<std::unique_ptr<Worker>> create(const Shared& shared);
    ~Worker();

    /// Before run(): called on the worker's thread when its connection to the vault ends.
    std::function<void()> on_vault_lost;

    /// Until stop().
    void run() { context_.run(); }

    using RegistryPtr = Sessions::RegistryPtr;
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
    /// A door that is open here.
    struct Open {
        DoorId id = kNoDoor;
        // Of those who come now; never empty. Who waits for the vault holds it too, and finds what a reload
        // has put there.
        std::shared_ptr<ServerEnd::Specs> specs = std::make_shared<ServerEnd::Specs>();
        std::vector<std::unique_ptr<io::Listener>> listeners;
        std::unique_ptr<tunnel::Endpoint> endpoint;
        std::unique_ptr<forward::Flows> flows;
    };

    Worker(const Shared& shared, std::unique_ptr<crypto::SecretPool> pool, cookie::Keeper keeper);

    [[nodiscard]] std::size_t set_doors(std::vector<Door> doors);
    [[nodiscard]] std::size_t close_all_but(const std::vector<Door>& doors);
    void open(Open& door, std::vector<os::UniqueFd> sockets);
    void listen(Open& door, os::UniqueFd listening);
    void serve_endpoint(Open& door, os::UniqueFd sessions, os::UniqueFd hellos);
    void serve_datagrams(Open& door, os::UniqueFd listening);
    [[nodiscard]] static forward::Flows::Limits flow_limits(const ServiceSpec& spec);
    [[nodiscard]] std::size_t end_unwelcome();
    void end_sessions_of(vault::KeySlot dropped);
    void cycle_cookie_keys();
    void sweep();
    [[nodiscard]] tunnel::Environment lent(const Shared& shared);

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
    io::Timer cookie_timer_;
    io::Timer sweep_timer_;
    std::map<std::string, Open> doors_;
    std::uint64_t last_door_ = 0;
    bool sweeping_ = false;
    bool draining_ = false;
    Sessions sessions_;
    ServerEnd server_end_;
    ClientEnd client_end_;
};

}  // namespace curvegate::serve
