#pragma once

#include "base/bytes.hpp"
#include "base/time.hpp"
#include "io/asio.hpp"

#include <sys/uio.h>

#include <functional>
#include <optional>

/// Reading and writing stream sockets without waiting.
namespace curvegate::io {

/// Did a system call fail for now only? Looks at errno.
[[nodiscard]] bool would_block(ssize_t result) noexcept;
/// Sends what the socket takes. Gives the number of bytes, or nothing if the connection is broken.
[[nodiscard]] std::optional<std::size_t> send_some(Stream& to, Bytes bytes) noexcept;
[[nodiscard]] std::optional<std::size_t> send_some(Stream& to, std::span<iovec> parts) noexcept;
/// Does the peer of a TCP tunnel leave bytes unacknowledged, and has been silent for `dead_peer`?
[[nodiscard]] bool is_silent(Stream& tunnel, Duration dead_peer) noexcept;

/// Has the reader's kernel everything that `plain` was given? A reset sent earlier would destroy bytes on
/// their way.
[[nodiscard]] bool is_delivered(Stream& plain) noexcept;
/// Calls `done` once `drained` holds, which is asked every 20 ms, or `limit` has passed. Both may be called
/// from within.
void when_drained(const Stream::executor_type& executor, Duration limit, std::function<bool()> drained,
                  std::function<void()> done);

}  // namespace curvegate::io
