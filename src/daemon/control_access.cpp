#include "daemon/control_access.hpp"

#include <algorithm>

namespace curvegate::daemon {

Right ControlAccess::right_of(const ControlPeer& peer) const {
    const auto is_in = [&](const std::optional<unsigned>& group) {
        return group && std::ranges::find(peer.groups, *group) != peer.groups.end();
    };
    if (peer.uid == 0 || peer.uid == uid || is_in(control_group)) return Right::command;
    return is_in(status_group) ? Right::status : Right::none;
}

}  // namespace curvegate::daemon
