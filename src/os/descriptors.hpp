#pragma once

#include "os/socket.hpp"

#include <cstdint>

/// File descriptors are what a busy daemon runs out of first. Some are kept back from sessions, so that
/// control, metrics, a new vault and a new log file find one.
namespace curvegate::os {

/// The most that this process may have: the hard limit, to which a program may raise its soft one.
[[nodiscard]] std::uint64_t descriptor_limit();

/// How many of `limit` are kept back: all clients of control and metrics, and a few for what the parent
/// passes.
[[nodiscard]] constexpr std::uint64_t kept_back(std::uint64_t limit) noexcept {
    constexpr std::uint64_t kMost = 192;
    return limit / 8 < kMost ? limit / 8 : kMost;
}

/// From here on this process keeps some back; until then none are. Takes the soft limit of the moment.
void keep_descriptors_back();

/// Is `fd`, which a session has just opened, one of those that are kept back? The kernel gives the lowest
/// number that is free, so it tells how many are in use.
[[nodiscard]] bool is_kept_back(int fd) noexcept;

/// socket(2) for a session, non-blocking and close-on-exec. Without a descriptor, and if only those are left
/// that are kept back, it is empty and errno says why (EMFILE).
[[nodiscard]] UniqueFd socket_for_session(int family, int type) noexcept;

/// Would the next descriptor be none of those? `any` is an open one.
[[nodiscard]] bool has_room_for_session(int any) noexcept;

}  // namespace curvegate::os
