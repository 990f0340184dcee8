#pragma once

#include "base/result.hpp"

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace curvegate::net {

/// What happened since the start, over all workers.
struct Counters {
    std::atomic<std::uint64_t> accepted{0};
    std::atomic<std::uint64_t> handshakes{0};
    std::atomic<std::uint64_t> sessions{0};  ///< now
    std::atomic<std::uint64_t> truncations{0};
    std::atomic<std::uint64_t> bytes_up{0};
    std::atomic<std::uint64_t> bytes_down{0};
    std::atomic<std::uint64_t> hellos_answered{0};  ///< udp
    std::atomic<std::uint64_t> hellos_dropped{0};   ///< udp: for want of time

    std::atomic<std::uint64_t> datagrams_in{0};       ///< from applications into tunnels
    std::atomic<std::uint64_t> datagrams_out{0};      ///< from tunnels to applications
    std::atomic<std::uint64_t> datagrams_dropped{0};  ///< too long, or their way was not free in time

    /// Counts by the reason's fixed words: the set is bounded by our own enums, never by what a peer sends.
    void refuse(const Error& why) {
        const std::lock_guard lock(mutex_);
        ++refusals_[why.what()];
    }
    [[nodiscard]] std::map<std::string_view, std::uint64_t> refusals() const {
        const std::lock_guard lock(mutex_);
        return refusals_;
    }

  private:
    mutable std::mutex mutex_;
    std::map<std::string_view, std::uint64_t> refusals_;
};

}  // namespace curvegate::net
