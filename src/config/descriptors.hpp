#pragma once

#include "config/config.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace curvegate::config {

/// Descriptors that the network process needs at most, if everything comes that the configuration lets in.
struct DescriptorNeeds {
    std::uint64_t own = 0;  ///< of the process itself, and those that it keeps back for control and metrics
    std::uint64_t listening = 0;  ///< sockets of `accept`
    std::uint64_t half_open = 0;  ///< unfinished handshakes
    std::uint64_t sessions = 0;   ///< two each: the tunnel and the plain side
    std::uint64_t flows = 0;      ///< sources of datagrams: a tunnel each
    [[nodiscard]] std::uint64_t sum() const noexcept {
        return own + listening + half_open + sessions + flows;
    }
};
/// `kept_back`: descriptors that sessions leave to others.
[[nodiscard]] DescriptorNeeds descriptors_of(const Config& config, std::size_t workers,
                                             std::uint64_t kept_back);

/// If more may come than a process with `limit` descriptors can hold: lowers what could never be reached, and
/// says so, and what to do. Returns nullopt if everything fits.
[[nodiscard]] std::optional<std::string> fit_to_descriptors(Config& config, std::size_t workers,
                                                            std::uint64_t limit, std::uint64_t kept_back);

}  // namespace curvegate::config
