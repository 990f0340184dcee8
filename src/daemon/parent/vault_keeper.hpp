#pragma once

#include "config/config.hpp"
#include "os/socket.hpp"
#include "os/socket_files.hpp"
#include "vault_client/vault_process.hpp"

#include <optional>
#include <vector>

namespace curvegate::daemon::parent {

/// Sees to it that there is a vault: starts one and restarts it with back-off, or keeps connections to one
/// that runs as a unit of its own (`vault = unix:PATH`).
///
/// A vault that it started has confined itself and can remove no file, so the file of its control socket is
/// removed here, at the end and while the vault still listens: no other program has taken the path then. What
/// stands there must be that very file (os::SocketFiles).
class VaultKeeper {
  public:
    VaultKeeper(config::Config config, std::size_t connections);
    ~VaultKeeper();

    /// Waits until the vault is ready (it may ask for a passphrase). Gives 0 or the exit status to end with;
    /// the reason has been logged.
    [[nodiscard]] int start();

    /// New connections for the workers, one each; an empty descriptor: that worker keeps what it has.
    [[nodiscard]] std::vector<os::UniqueFd> take_connections();

    [[nodiscard]] int descriptor() const noexcept { return process_.lifeline.get(); }  ///< to poll; -1: none
    [[nodiscard]] std::optional<Instant> next_deadline() const noexcept { return due_; }
    /// Whether take_connections() has new ones.
    enum class News { none, connections };
    [[nodiscard]] News read_lifeline();      ///< descriptor() is readable
    [[nodiscard]] News tend(Instant now);    ///< starts or connects again what is due
    void reaped(int pid);                    ///< a child ended
    void lost(std::size_t connection);       ///< a worker's connection ended
    void not_taken(std::size_t connection);  ///< the front had no descriptor left for it
    void restart();                          ///< a new vault for a new front
    void forget() noexcept;                  ///< in the front after fork: close what is the parent's

  private:
    [[nodiscard]] bool spawned() const noexcept { return config_.vault_socket.empty(); }
    [[nodiscard]] Result<> begin();
    [[nodiscard]] News connect_wanted();
    void is_up();
    void retry_later();
    void back_off();
    [[nodiscard]] Result<os::UniqueFd> connect_to_unit() const;

    const config::Config config_;  // as it was at the start: a reload does not change the vault
    std::size_t connections_;
    vault_client::VaultProcess process_;
    std::vector<os::UniqueFd> fresh_;
    std::vector<bool> wanted_;  // unit: which workers lack a connection
    std::optional<Instant> due_;
    Duration backoff_;
    bool ready_ = false;
    os::SocketFiles control_file_;  // of a vault that was started here
};

}  // namespace curvegate::daemon::parent
