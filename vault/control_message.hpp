#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"

#include <optional>
#include <span>
#include <vector>

/// Messages with several descriptors, for both ends of the control socket.
namespace curvegate::vault {

struct MessageWithDescriptors {
    std::size_t size = 0;  ///< 0: the other end is closed
    std::vector<os::UniqueFd> descriptors;
};
/// Receives one message into `into` with at most `most` descriptors (close-on-exec). Returns nullopt if
/// the socket is non-blocking and empty. A message that is longer, or brings more, is an error.
[[nodiscard]] Result<std::optional<MessageWithDescriptors>> receive_with_descriptors(int socket,
                                                                                     MutableBytes into,
                                                                                     std::size_t most);
[[nodiscard]] Result<> send_with_descriptors(int socket, Bytes message, std::span<const int> descriptors);

}  // namespace curvegate::vault
