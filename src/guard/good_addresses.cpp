#include "guard/good_addresses.hpp"

#include <algorithm>

namespace curvegate::guard {

std::vector<ScopedIp> GoodAddresses::order(const std::string& place, std::vector<ScopedIp> addresses,
                                           Instant now) {
    const std::lock_guard lock(mutex_);
    const auto known = good_.find(place);
    if (known == good_.end()) return addresses;
    if (now - known->second.since >= kLasts) {
        known->second.since = now;  // the others stay with what works until this one has found out
        return addresses;
    }
    const auto good = std::ranges::find(addresses, known->second.address);
    if (good != addresses.end()) std::rotate(addresses.begin(), good, good + 1);
    return addresses;
}

void GoodAddresses::answered(const std::string& place, const ScopedIp& address, Instant now) {
    const std::lock_guard lock(mutex_);
    const auto known = good_.find(place);
    if (known != good_.end()) {
        // The time counts from when it was found, so that the first choice is looked at again some day.
        if (known->second.address != address) known->second = {address, now};
        return;
    }
    if (good_.size() >= kMost)
        good_.erase(
            std::ranges::min_element(good_, {}, [](const auto& entry) { return entry.second.since; }));
    good_.emplace(place, Good{address, now});
}

}  // namespace curvegate::guard
