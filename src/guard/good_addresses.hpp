#pragma once

#include "base/scoped_ip.hpp"
#include "base/time.hpp"

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace curvegate::guard {

/// Which address of a place with several answered last (a tunnel's: shook hands), so that the next connection
/// begins with it and does not wait again for one that is silent. After kLasts one connection begins with the
/// resolver's first choice once more, to find out whether that answers now. Time comes in. Any thread.
class GoodAddresses {
  public:
    static constexpr Duration kLasts = std::chrono::minutes(10);
    static constexpr std::size_t kMost = 4'096;  ///< over this the oldest is forgotten

    /// `addresses` of `place` (a host, a port and a carrier) in the order in which to try them now.
    [[nodiscard]] std::vector<ScopedIp> order(const std::string& place, std::vector<ScopedIp> addresses,
                                              Instant now);
    void answered(const std::string& place, const ScopedIp& address, Instant now);

  private:
    struct Good {
        ScopedIp address;
        Instant since;
    };
    std::mutex mutex_;
    std::map<std::string, Good> good_;
};

}  // namespace curvegate::guard
