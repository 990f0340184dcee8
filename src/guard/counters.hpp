#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "guard/target_health.hpp"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace curvegate::guard {

/// What one service did since the start, over all workers; a reload keeps it.
struct ServiceCounters {
    std::atomic<std::uint64_t> sessions{0};  ///< now
    std::atomic<std::uint64_t> accepted{0};
    std::atomic<std::uint64_t> handshakes{0};
    std::atomic<std::uint64_t> refused{0};
    std::atomic<std::uint64_t> truncations{0};
    std::atomic<std::uint64_t> bytes_in{0};   ///< from the tunnel to the application, of sessions that ended
    std::atomic<std::uint64_t> bytes_out{0};  ///< the other way
    TargetHealth targets;
};

/// The same of one peer.
struct PeerCounters {
    std::uint64_t handshakes = 0;
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    WallTime last_handshake;
    std::string key;  ///< that it used last
};

/// What happened since the start, over all workers.
struct Counters {
    std::atomic<std::uint64_t> connections{0};  ///< that were numbered
    std::atomic<std::uint64_t> accepted{0};
    std::atomic<std::uint64_t> handshakes{0};
    std::atomic<std::uint64_t> sessions{0};  ///< now
    std::atomic<std::uint64_t> truncations{0};
    std::atomic<std::uint64_t> bytes_up{0};
    std::atomic<std::uint64_t> bytes_down{0};
    std::atomic<std::uint64_t> hellos_answered{0};  ///< udp
    std::atomic<std::uint64_t> hellos_dropped{0};   ///< udp: crowded out, or waited too long

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

    /// Lives as long as this; made at the first question.
    [[nodiscard]] std::shared_ptr<ServiceCounters> service(const std::string& name) {
        const std::lock_guard lock(mutex_);
        auto& found = services_[name];
        if (!found) found = std::make_shared<ServiceCounters>();
        return found;
    }

    /// What services of these names (before, after) did is from now on under their new ones.
    void rename(const std::vector<std::pair<std::string, std::string>>& names) {
        const std::lock_guard lock(mutex_);
        std::vector<std::shared_ptr<ServiceCounters>> moved;
        for (const auto& [before, after] : names) {
            moved.push_back(services_[before]);
            services_.erase(before);
        }
        for (std::size_t i = 0; i < names.size(); ++i) services_[names[i].second] = moved[i];
    }

    [[nodiscard]] std::shared_ptr<const ServiceCounters> find_service(const std::string& name) const {
        const std::lock_guard lock(mutex_);
        const auto found = services_.find(name);
        return found != services_.end() ? found->second : nullptr;
    }

    /// `name` stands in known_hosts: the table is bounded by it. Keys without a name are one peer, "".
    void peer_came(const std::string& name, std::string key, WallTime at) {
        const std::lock_guard lock(mutex_);
        PeerCounters& peer = peers_[name];
        ++peer.handshakes;
        peer.last_handshake = at;
        peer.key = std::move(key);
    }
    void peer_left(const std::string& name, std::uint64_t bytes_in, std::uint64_t bytes_out) {
        const std::lock_guard lock(mutex_);
        PeerCounters& peer = peers_[name];
        peer.bytes_in += bytes_in;
        peer.bytes_out += bytes_out;
    }
    [[nodiscard]] std::map<std::string, PeerCounters> peers() const {
        const std::lock_guard lock(mutex_);
        return peers_;
    }

  private:
    mutable std::mutex mutex_;
    std::map<std::string_view, std::uint64_t> refusals_;
    std::map<std::string, std::shared_ptr<ServiceCounters>> services_;
    std::map<std::string, PeerCounters> peers_;
};

}  // namespace curvegate::guard
