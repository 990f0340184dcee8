#pragma once

#include "os/socket.hpp"

#include <chrono>
#include <expected>
#include <string>

namespace curvegate::os {

/// Connects to the unix socket at `path`; `type` is SOCK_STREAM or SOCK_SEQPACKET. A listener whose queue is
/// full is waited for as long as `patience`, and so is each later send. With a patience of 0 nothing waits:
/// the socket is non-blocking. It is close-on-exec. Error: errno; EAGAIN: the queue stayed full.
[[nodiscard]] std::expected<UniqueFd, int> connect_unix(const std::string& path, int type,
                                                        std::chrono::seconds patience);

}  // namespace curvegate::os
