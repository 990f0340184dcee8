#pragma once

#include "config/config.hpp"
#include "daemon/channel.hpp"
#include "os/socket.hpp"

#include <optional>
#include <vector>

namespace curvegate::daemon::parent {

/// The names being looked up, each by a process of its own, so that the resolver library, its files and its
/// plug-ins run neither in the front nor beside a listening socket. Such a process ends by itself within
/// kLookupSeconds.
inline constexpr unsigned kLookupSeconds = 10;

class Lookups {
  public:
    /// Returns nullopt if it is under way, else why not: `config` names no such host (a front that was taken
    /// over learns nothing else), there are kMostLookups of them, or this machine has no process left. The
    /// front has a queue of its own, and asks for no more at once.
    [[nodiscard]] std::optional<to_front::Resolved> start(const to_parent::Resolve& request,
                                                          const config::Config& config);
    [[nodiscard]] std::size_t size() const noexcept { return under_way_.size(); }
    /// Readable when that look-up has ended: call finish() then.
    [[nodiscard]] int descriptor(std::size_t place) const noexcept { return under_way_[place].answer.get(); }
    /// Its answer; those behind it move up.
    [[nodiscard]] to_front::Resolved finish(std::size_t place);
    /// Nobody wants the answers any more.
    void clear() noexcept { under_way_.clear(); }

  private:
    struct UnderWay {
        std::uint32_t id;
        os::UniqueFd answer;  // readable once: a serialised to_front::Resolved; closed without one: no answer
    };
    std::vector<UnderWay> under_way_;
};

}  // namespace curvegate::daemon::parent
