#pragma once

#include "base/time.hpp"
#include "service/service.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace curvegate::guard {

using service::Failover;

/// How the targets of one service answered, and in which order the next connection asks them. A target whose
/// try failed rests: it is asked after all others, for 1 s at first and twice as long after each further
/// failure, up to 60 s; a success ends that. Nobody is asked for the sake of it: when a rest is over, the
/// next connection finds out, alone. Time comes in. Any thread.
class TargetHealth {
  public:
    static constexpr Duration kFirstRest = std::chrono::seconds(1);
    static constexpr Duration kLongestRest = std::chrono::seconds(60);

    /// The places of all `targets` (their texts, at least one, each once) in the order to try now.
    [[nodiscard]] std::vector<std::size_t> order(std::span<const std::string> targets, Failover failover,
                                                 Instant now);
    /// Gives whether it had failed before.
    bool succeeded(const std::string& target);
    /// A try that was begun at `began` failed. One that was begun before another failed counts with that one.
    /// Gives how long the target rests from now on.
    Duration failed(const std::string& target, Instant began, Instant now);
    /// Forgets what is not among these; a reload calls it.
    void keep(std::span<const std::string> targets);

    struct State {
        bool up = true;    ///< its last try did not fail
        Duration rests{};  ///< for so long from now on; 0: it is asked in its turn
    };
    [[nodiscard]] State state(const std::string& target, Instant now) const;

  private:
    struct Failing {
        Instant since;  // the last failure that counted
        Instant until;
        Duration rest{};
    };
    mutable std::mutex mutex_;
    std::map<std::string, Failing> failing_;  // few: targets of the configuration
    std::uint64_t turn_ = 0;
};

}  // namespace curvegate::guard
