#pragma once

#include "base/time.hpp"
#include "daemon/front_setup.hpp"
#include "daemon/parent/front_process.hpp"
#include "daemon/parent/handover.hpp"
#include "daemon/parent/in_force.hpp"
#include "daemon/parent/openings.hpp"
#include "daemon/parent/vault_keeper.hpp"

#include <functional>
#include <optional>

namespace curvegate::daemon::parent {

/// Sees to it that there are a vault and a front.
///
/// - The vault that dies is started again with back-off (VaultKeeper), and the front gets new connections to
///   it. Sessions go on meanwhile.
/// - With a front its connections to the vault end. So a front that dies is followed, kFrontBackoff later, by
///   a new vault and a new front, born with what is in force then.
/// - A front that hangs is killed (FrontProcess), and then it has died.
/// - A child that was forked for the front holds nothing of the parent's but the log when it begins.
class Supervisor {
  public:
    static constexpr Duration kFrontBackoff = std::chrono::seconds(1);

    /// `run_front` is the life of a process that was forked for the front; before, it calls `release`, which
    /// closes what others here hold. All but these functions must outlive it.
    Supervisor(const InForce& in_force, Openings& openings, RunFrontFn run_front,
               std::function<void()> release);

    /// Waits until the vault is ready (it may ask for a passphrase). Returns 0 or the exit status to end
    /// with; the reason has been logged.
    [[nodiscard]] int start_vault() { return vault_.start(); }
    /// Returns false if it cannot be forked; the reason has been logged.
    [[nodiscard]] bool start_front();
    /// The front has died, and is to be followed by another one.
    void front_fell(Instant now) noexcept { front_due_ = now + kFrontBackoff; }

    /// Waits for children that have ended. Returns the wait status of the front if it is among them.
    [[nodiscard]] std::optional<int> reap();

    [[nodiscard]] int vault_lifeline() const noexcept { return vault_.descriptor(); }  ///< to poll; -1: none
    void read_lifeline();
    void vault_lost(std::size_t worker) { vault_.lost(worker); }
    void not_taken(const to_parent::NotTaken& what);

    [[nodiscard]] Deadline next_deadline() const;
    void tend(Instant now);  ///< starts, repeats or kills what is due

    [[nodiscard]] FrontProcess& front() noexcept { return front_; }
    [[nodiscard]] const FrontProcess& front() const noexcept { return front_; }
    [[nodiscard]] Handover& handover() noexcept { return handover_; }

  private:
    [[nodiscard]] Result<> fork_front();
    [[nodiscard]] Result<FrontSetup> setup_with(os::UniqueFd channel) const;
    [[noreturn]] void become_front(FrontSetup setup);
    void restart_front(Instant now);
    void hand_over_connections();

    const InForce& in_force_;
    Openings& openings_;
    const RunFrontFn run_front_;
    const std::function<void()> release_;
    VaultKeeper vault_;
    FrontProcess front_;
    Handover handover_{front_};
    Deadline front_due_;
};

}  // namespace curvegate::daemon::parent
