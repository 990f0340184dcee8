#pragma once

#include "daemon/channel.hpp"
#include "daemon/doors.hpp"
#include "daemon/loaded.hpp"
#include "daemon/parent/front_process.hpp"

#include <bitset>
#include <optional>
#include <set>
#include <string>

namespace curvegate::daemon::parent {

/// Gives the front what comes with descriptors: a configuration, log-file, audit. Where it has none left for
/// them it says so, and they are sent again every second until it has taken them.
class Handover {
  public:
    explicit Handover(FrontProcess& front) : front_(front) {}

    /// A configuration and the sockets that it needs: `opened` for it, and those that were `open` before and
    /// that the front has not taken. Not in force before apply(). Returns false if it cannot
    /// be sent.
    [[nodiscard]] bool configuration(const Loaded& next, const DoorSockets& opened, const DoorSockets& open);
    void apply(const to_front::Apply& message);
    void applied(std::uint32_t generation);  ///< the front says so
    void log(os::UniqueFd file);             ///< it is kept, to be sent again
    void audit(int file);

    void not_taken(to_parent::NotTaken::What what);  ///< the front says so
    void new_front() noexcept;                       ///< it was born with all of it
    [[nodiscard]] std::optional<Instant> next_deadline() const noexcept { return due_; }
    /// What is in force, to be sent again when it is time. `audit` is a descriptor, -1: none.
    void tend(Instant now, const Loaded& loaded, const DoorSockets& open, int audit);

  private:
    using What = to_parent::NotTaken::What;
    [[nodiscard]] bool owes(What what) const { return owed_.test(static_cast<std::size_t>(what)); }

    FrontProcess& front_;
    std::bitset<4> owed_;            // by What: not taken yet
    std::set<std::string> missing_;  // keys of doors that the front has no sockets of yet
    std::optional<Instant> due_;
    to_front::Apply last_{};  // to be said again
    os::UniqueFd log_;
};

}  // namespace curvegate::daemon::parent
