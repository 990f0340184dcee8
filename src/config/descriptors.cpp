#include "config/descriptors.hpp"

#include <algorithm>

namespace curvegate::config {
namespace {

constexpr std::uint64_t kOfAProcess = 32;  // standard ones, the log, the audit, channels
constexpr std::uint64_t kOfAWorker = 4;    // its event loop and its connection to the vault

bool has_flows(const Service& service) {
    return service.side == Side::client && service.plain_side() == PlainSide::datagrams;
}

// A server's UDP port has two a worker, anything else one.
std::uint64_t listeners(const Service& service, std::size_t workers) {
    if (service.accept.kind == Address::Kind::none) return 0;
    const bool endpoint =
        service.side == Side::server && service::transport_of(service.wire()) == service::Transport::udp;
    return workers * (endpoint ? 2 : 1);
}

/// Lowers `value` to `most`; gives the words for it.
template <class Number>
std::string lower(Number& value, std::uint64_t most, const std::string& name) {
    const auto bound = static_cast<Number>(std::max<std::uint64_t>(most, 1));
    if (value <= bound) return {};
    value = bound;
    return ", " + name + " is lowered to " + std::to_string(bound);
}

}  // namespace

DescriptorNeeds descriptors_of(const Config& config, std::size_t workers, std::uint64_t kept_back) {
    DescriptorNeeds out;
    out.own = kOfAProcess + kOfAWorker * workers + kept_back;
    const auto by_tcp = [](const Service& service) {
        return service.side == Side::server &&
               service::transport_of(service.wire()) == service::Transport::tcp;
    };
    if (std::ranges::any_of(config.services, by_tcp)) out.half_open = config.admission.half_open;
    for (const auto& service : config.services) {
        out.listening += listeners(service, workers);
        if (has_flows(service)) out.flows += service.limits.flows;
    }
    if (!std::ranges::all_of(config.services, has_flows)) out.sessions = 2 * std::uint64_t{config.sessions};
    return out;
}

std::optional<std::string> fit_to_descriptors(Config& config, std::size_t workers, std::uint64_t limit,
                                              std::uint64_t kept_back) {
    const auto needs = descriptors_of(config, workers, kept_back);
    if (needs.sum() <= limit) return std::nullopt;
    const std::uint64_t fixed = needs.own + needs.listening;
    const std::uint64_t room = limit > fixed ? limit - fixed : 0;
    std::string out = "the limit of descriptors is " + std::to_string(limit) +
                      ", and the limits of sessions, " + "flows and handshakes may need " +
                      std::to_string(needs.sum());
    out += lower(config.sessions, room / 2, "sessions");
    // Strangers never have more than half.
    if (needs.half_open > 0) out += lower(config.admission.half_open, room / 2, "half-open");
    for (auto& service : config.services) {
        if (has_flows(service))
            out += lower(service.limits.flows, room / 2, "flows of [" + service.name + "]");
    }
    return out + "; set LimitNOFILE=" + std::to_string(needs.sum()) +
           " in the unit (or ulimit -Hn), or lower sessions, half-open and flows";
}

}  // namespace curvegate::config
