#pragma once

#include <optional>
#include <vector>

namespace curvegate::daemon {

/// What somebody may ask for on the control socket, from less to more.
enum class Right {
    none,
    status,   ///< status-group
    command,  ///< root, our own uid, control-group
};

/// A process at the other end of a unix socket, as the kernel knows it.
struct ControlPeer {
    unsigned uid;
    std::vector<unsigned> groups;  ///< the primary one too
};

/// Who may speak on the control socket (docs/CONTROL.md). The parent looks the groups up, the front asks.
struct ControlAccess {
    unsigned uid;
    std::optional<unsigned> control_group;
    std::optional<unsigned> status_group;

    [[nodiscard]] Right right_of(const ControlPeer& peer) const;
};

}  // namespace curvegate::daemon
