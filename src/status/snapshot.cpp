#include "status/snapshot.hpp"

namespace curvegate::status {
namespace {

struct Counts {
    std::uint64_t bytes_in = 0;
    std::uint64_t bytes_out = 0;
    std::uint64_t handshakes = 0;
};
using CountsByName = std::map<std::string, Counts, std::less<>>;

/// Names may come twice: what a reload replaced may still have sessions.
template <class Items>
CountsByName by_name(const Items& items) {
    CountsByName sums;
    for (const auto& item : items) {
        Counts& sum = sums[item.name];
        sum.bytes_in += item.traffic.bytes_in;
        sum.bytes_out += item.traffic.bytes_out;
        sum.handshakes += item.handshakes;
    }
    return sums;
}

double grown(std::uint64_t before, std::uint64_t after) {
    return after > before ? static_cast<double>(after - before) : 0;
}

std::map<std::string, Rate, std::less<>> rates_of(const CountsByName& before, const CountsByName& after,
                                                  double seconds) {
    std::map<std::string, Rate, std::less<>> out;
    for (const auto& [name, now] : after) {
        Rate& rate = out[name];
        const auto found = before.find(name);
        const Counts then = found == before.end() ? Counts{} : found->second;
        if (seconds <= 0) continue;
        rate = {grown(then.bytes_in, now.bytes_in) / seconds, grown(then.bytes_out, now.bytes_out) / seconds,
                grown(then.handshakes, now.handshakes) / seconds};
    }
    return out;
}

}  // namespace

Rates rates(const Snapshot& before, const Snapshot& after) {
    const bool same_daemon = before.started == after.started;
    const double seconds =
        same_daemon ? std::chrono::duration<double>(after.uptime - before.uptime).count() : 0;
    Rates out{rates_of(by_name(before.services), by_name(after.services), seconds),
              rates_of(by_name(before.peers), by_name(after.peers), seconds),
              {}};
    for (const auto& [name, rate] : out.services) {
        out.total.bytes_in += rate.bytes_in;
        out.total.bytes_out += rate.bytes_out;
        out.total.handshakes += rate.handshakes;
    }
    return out;
}

}  // namespace curvegate::status
