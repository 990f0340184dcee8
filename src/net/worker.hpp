#pragma once

#include "cookie/keeper.hpp"
#include "crypto/secret.hpp"
#include "net/chunk_pool.hpp"
#include "net/curvecp_endpoint.hpp"
#include "net/dial_stream.hpp"
#include "net/flows.hpp"
#include "net/forwarder.hpp"
#include "net/listener.hpp"
#include "net/service.hpp"
#include "net/vault_client.hpp"
#include "os/random.hpp"
#include "os/socket.hpp"

#include <boost/asio/executor_work_guard.hpp>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace curvegate::net {

/// One thread's share of the daemon: an io_context, locked memory for its secrets, minute keys, a connection
/// to the vault, and every connection that was accepted here, which stays here. Construct and call run() on
/// any one thread; the methods marked so may be called from others.
class Worker {
  public:
    /// Errors: crypto memory_not_locked, secrets_full.
    [[nodiscard]] static Result<std::unique_ptr<Worker>> create(const Shared& shared);
    ~Worker();

    /// Before run(). The socket listens already (a client's end with datagrams: is bound); `spec` outlives
    /// the worker.
    void serve(const ServiceSpec& spec, os::UniqueFd listening);
    /// The same for a server's UDP port and all the services that share it, asked in their order; the one
    /// that takes any name comes last.
    void serve_endpoint(std::vector<const ServiceSpec*> specs, os::UniqueFd sessions, os::UniqueFd hellos);
    /// Before run(): called on the worker's thread when its connection to the vault ends.
    std::function<void()> on_vault_lost;

    /// Until stop().
    void run() { context_.run(); }

    void attach_vault(os::UniqueFd socket);  ///< any thread
    void drain(
        std::function<void()> when_empty);  ///< any thread: accept no more; tell when the last has ended
    void cut();                             ///< any thread: end what is left, with resets
    void stop();                            ///< any thread
    [[nodiscard]] asio::io_context& context() noexcept { return context_; }

  private:
    class Connection;
    class UdpGuest;
    friend class Connection;
    friend class UdpGuest;

    Worker(const Shared& shared, std::unique_ptr<crypto::SecretPool> pool, cookie::Keeper keeper);
    void serve_tunnel(const ServiceSpec& spec, Stream stream, std::string source, const IpAddress& address);
    void serve_plain(const ServiceSpec& spec, Stream stream, std::string source);
    void open_tunnel(const std::shared_ptr<Connection>& connection, Stream plain);
    void open_stream_tunnel(const std::shared_ptr<Connection>& connection, Stream plain);
    template <class Tunnel>
    void reach_application(const std::shared_ptr<Connection>& connection, Tunnel tunnel);
    void not_connected(const std::shared_ptr<Connection>& connection, Stream plain, const Error& why);
    void serve_datagrams(const ServiceSpec& spec, os::UniqueFd listening);
    void open_flow(const ServiceSpec& spec, const std::string& source, Flows::DialedFn done);
    void session_ended(const ServiceSpec& spec, const std::string& peer, const std::string& source,
                       const ForwarderSummary& summary);
    [[nodiscard]] StreamTarget stream_target(const ServiceSpec& spec) const;
    [[nodiscard]] std::optional<std::string> authorise(Connection& connection, const crypto::PublicKey& key,
                                                       const IpAddress& address);
    void refuse(const Connection& connection, const Error& why);
    void watch(StreamTunnel& tunnel, const std::shared_ptr<Connection>& connection);
    void tell_if_empty();
    void cycle_cookie_keys();
    void sweep();
    void add(const std::shared_ptr<Connection>& connection);
    void remove(const std::shared_ptr<Connection>& connection);
    [[nodiscard]] HandshakeTools tools();
    [[nodiscard]] std::vector<crypto::PublicKey> keys_to_try(const ServiceSpec& spec) const;

    Shared shared_;
    std::unique_ptr<crypto::SecretPool>
        pool_;          // outlives everything that may hold a secret: the queue below too
    ChunkPool chunks_;  // outlives every stream
    asio::io_context context_{1};
    asio::executor_work_guard<asio::io_context::executor_type> busy_{context_.get_executor()};
    os::SystemRandom random_;
    cookie::Keeper keeper_;
    VaultClient vault_;
    Scratch scratch_;
    asio::steady_timer cookie_timer_;
    asio::steady_timer sweep_timer_;
    std::vector<std::unique_ptr<Listener>> listeners_;
    std::vector<std::unique_ptr<CurvecpEndpoint>> endpoints_;
    std::vector<std::unique_ptr<Flows>> flows_;
    std::unordered_set<std::shared_ptr<Connection>> connections_;
    std::function<void()> when_empty_;
    std::unordered_map<std::string, crypto::PublicKey>
        last_good_;                // which of a peer's keys answered, by service
    std::size_t undelivered_ = 0;  // tunnels over udp whose peers do not have everything yet
    bool sweeping_ = false;
};

}  // namespace curvegate::net
