#include "daemon/front/status_line.hpp"

#include "log/log.hpp"

#include <string>

namespace curvegate::daemon::front {

void log_status(const guard::Counters& counters) {
    std::string refusals;
    for (const auto& [reason, count] : counters.refusals()) {
        refusals += (refusals.empty() ? "" : "; ") + std::string(reason) + ": " + std::to_string(count);
    }
    log::event(log::Level::info, "status",
               {{"sessions", counters.sessions},
                {"accepted", counters.accepted},
                {"handshakes", counters.handshakes},
                {"truncations", counters.truncations},
                {"hellos", counters.hellos_answered},
                {"hellos_dropped", counters.hellos_dropped},
                {"datagrams_in", counters.datagrams_in},
                {"datagrams_out", counters.datagrams_out},
                {"datagrams_dropped", counters.datagrams_dropped},
                {"bytes_in", counters.bytes_down},
                {"bytes_out", counters.bytes_up},
                {"refused", refusals}});
}

}  // namespace curvegate::daemon::front
