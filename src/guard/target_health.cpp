#include "guard/target_health.hpp"

#include <algorithm>
#include <utility>

namespace curvegate::guard {

std::vector<std::size_t> TargetHealth::order(std::span<const std::string> targets, Failover failover,
                                             Instant now) {
    const std::lock_guard lock(mutex_);
    std::vector<std::size_t> asked;
    std::vector<std::size_t> resting;
    const auto until = [&](std::size_t place) {
        const auto found = failing_.find(targets[place]);
        return found != failing_.end() ? found->second.until : Instant::min();
    };
    for (std::size_t place = 0; place < targets.size(); ++place)
        (until(place) > now ? resting : asked).push_back(place);
    if (failover == Failover::round_robin && !asked.empty()) {
        const auto first = static_cast<std::ptrdiff_t>(turn_++ % asked.size());
        std::ranges::rotate(asked, asked.begin() + first);
    }
    // Who comes first finds out whether it is back; until that is known it rests for the others.
    if (!asked.empty()) {
        const auto found = failing_.find(targets[asked.front()]);
        if (found != failing_.end()) found->second.until = now + found->second.rest;
    }
    std::ranges::sort(resting, {}, [&](std::size_t place) { return std::pair(until(place), place); });
    asked.insert(asked.end(), resting.begin(), resting.end());
    return asked;
}

bool TargetHealth::succeeded(const std::string& target) {
    const std::lock_guard lock(mutex_);
    return failing_.erase(target) > 0;
}

Duration TargetHealth::failed(const std::string& target, Instant began, Instant now) {
    const std::lock_guard lock(mutex_);
    const auto [found, first] = failing_.try_emplace(target);
    Failing& failing = found->second;
    if (first || began >= failing.since) {
        failing.rest = first ? kFirstRest : std::min(2 * failing.rest, kLongestRest);
        failing.since = now;
        failing.until = now + failing.rest;
    }
    return std::max(failing.until - now, Duration::zero());
}

void TargetHealth::keep(std::span<const std::string> targets) {
    const std::lock_guard lock(mutex_);
    std::erase_if(failing_, [&](const auto& failing) {
        return std::ranges::find(targets, failing.first) == targets.end();
    });
}

TargetHealth::State TargetHealth::state(const std::string& target, Instant now) const {
    const std::lock_guard lock(mutex_);
    const auto found = failing_.find(target);
    if (found == failing_.end()) return {};
    return {false, std::max(found->second.until - now, Duration::zero())};
}

}  // namespace curvegate::guard
