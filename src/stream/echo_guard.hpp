#pragma once

#include "base/time.hpp"

#include <algorithm>
#include <cstdint>

/// Keeps a peer of another kind from locking itself up (PROTOCOL 9.4).
namespace curvegate::stream {

/// The reference looks at no message, so at no acknowledgment, while its program does not take what came. A
/// program that answers as it reads (cat) does not read while its answers wait, and they wait for our
/// acknowledgments: whoever sends faster than it answers stops both for ever. So once such a peer sends
/// anything, we keep near to it: each byte of it allows one of ours, and when none comes for a while it is
/// not an answer that holds us, and ever more is allowed.
class EchoGuard {
  public:
    static constexpr std::uint64_t kAhead = std::uint64_t{128} * 1024;

    /// The peer's stream has grown by `bytes`; ours was sent up to `sent`.
    void on_received(std::uint64_t bytes, std::uint64_t sent, Instant now) noexcept {
        if (bytes == 0) return;
        last_ = now;
        if (!active_) {
            active_ = true;
            limit_ = sent + kAhead;
            return;
        }
        limit_ += bytes;
        if (limit_ < sent + kAhead) return;
        limit_ = sent + kAhead;
        grant_ = kAhead;
    }
    [[nodiscard]] bool active() const noexcept { return active_; }
    /// How far we may send.
    [[nodiscard]] std::uint64_t limit() const noexcept { return limit_; }
    /// When it gives way, if it is what holds us.
    [[nodiscard]] Instant gives_way_at(Duration round_trip) const noexcept {
        return last_ + std::max<Duration>(kWait, 4 * round_trip);
    }
    void give_way(std::uint64_t sent, Instant now) noexcept {
        limit_ = sent + grant_;
        grant_ = std::min(2 * grant_, kMostGrant);
        last_ = now;
    }

  private:
    static constexpr Duration kWait = std::chrono::milliseconds(200);
    static constexpr std::uint64_t kMostGrant = std::uint64_t{1} << 30;

    std::uint64_t limit_ = 0;
    std::uint64_t grant_ = kAhead;
    Instant last_;
    bool active_ = false;
};

}  // namespace curvegate::stream
