#include "cli/config_checks.hpp"
#include "cli/exit.hpp"
#include "cli/explain.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/production.hpp"
#include "cli/verbs.hpp"
#include "crypto/keys.hpp"
#include "registry/dates.hpp"

#include <algorithm>
#include <chrono>

namespace curvegate::cli {
namespace {

WallTime now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

/// An address of the tunnel's side, and with curvecp the service that is asked for there.
std::string tunnel_text(const config::Service& service, const config::Address& tunnel) {
    if (service.wire() != service::Wire::curvecp) return tunnel.text();
    if (service.server_name == "*") return tunnel.text() + " (any server-name)";
    return tunnel.text() + " (server-name " + service.server_name + ")";
}

/// How several targets are used; empty: there is one.
std::string failover_text(const config::Service& service) {
    if (service.connect.size() < 2) return {};
    return service.failover == config::Failover::prio ? " (the first that answers)" : " (in turn)";
}

/// Where a service listens and what it dials.
std::string describe(const config::Service& service) {
    const std::string head = "  [" + service.name + "] ";
    if (service.side == config::Side::server) {
        return head + "server end: listens on " + tunnel_text(service, service.accept) + ", connects to " +
               service.connect_text() + failover_text(service);
    }
    std::string targets;
    for (const auto& target : service.connect) {
        targets += (targets.empty() ? "" : ", or ") + tunnel_text(service, target) + ", where " +
                   service.peer_of(target) + " must answer";
    }
    const bool listens = service.accept.kind != config::Address::Kind::none;
    return head +
           "client end: " + (listens ? "listens on " + service.accept.text() : "for curvegate connect") +
           ", connects to " + targets + failover_text(service);
}

/// How many sessions a service may have at once, and for how long.
std::string limits_of(const config::Service& service) {
    const auto& limits = service.limits;
    const std::string of_service = "sessions-per-service = " + std::to_string(limits.sessions_per_service);
    const std::string of_clients = ", sessions-per-peer = " + std::to_string(limits.sessions_per_peer) +
                                   ", sessions-per-source = " + std::to_string(limits.sessions_per_source);
    const bool datagrams = service.accept.kind == config::Address::Kind::udp;
    if (service.side == config::Side::server) return "      " + of_service + of_clients;
    return "      " + (datagrams ? "flows = " + std::to_string(service.limits.flows) : of_service);
}
std::string limits_in_all(const config::Config& config) {
    const auto& strangers = config.admission;
    return "  in all: sessions = " + std::to_string(config.sessions) +
           ", half-open = " + std::to_string(strangers.half_open) +
           ", half-open-per-source = " + std::to_string(strangers.half_open_per_source);
}

/// A key that may use a service, under the name that lets it in.
std::string allowed_text(const registry::Entry& entry, const std::string& name) {
    std::string out = "      allows " + name + " " + crypto::fingerprint(entry.key);
    for (const auto& block : entry.from)
        out += (&block == &entry.from.front() ? " from=" : ",") + block.text();
    if (entry.valid_until) out += " valid-until=" + registry::format_valid_until(*entry.valid_until);
    return out;
}

/// Who may use the service of a server end now.
void print_allowed(const config::Service& service, const registry::Registry& registry, WallTime at) {
    if (service.side != config::Side::server) return;
    if (service.allow.any)
        return print("      allows any key that is not revoked, also one that is not in known_hosts");
    bool anybody = false;
    for (const auto& entry : registry.entries()) {
        const auto name = std::ranges::find_first_of(entry.names, service.allow.names);
        const bool over = entry.valid_until && at >= *entry.valid_until;
        if (name == entry.names.end() || over || registry.is_revoked(entry.key)) continue;
        print(allowed_text(entry, *name));
        anybody = true;
    }
    if (!anybody) print("      allows nobody");
}

enum class Say { where, limits_too };

int check_files(const config::Parsed& parsed, Say say) {
    const WallTime at = now();
    const Examined seen = examine(parsed, at);
    complain(seen.warnings, "warning: ");
    complain(seen.known_hosts);
    complain(seen.problems);
    if (!seen.good()) return seen.status;
    const std::size_t count = parsed.config.services.size();
    print(parsed.config.file + " is fine: " + std::to_string(count) +
          (count == 1 ? " service" : " services"));
    for (const config::Service& service : parsed.config.services) {
        print(describe(service));
        print_allowed(service, *seen.registry, at);
        if (say == Say::limits_too) print(limits_of(service));
    }
    if (say == Say::limits_too) print(limits_in_all(parsed.config));
    return finish_output();
}

int explain_peer(const Options& options, const config::Parsed& parsed) {
    const Examined seen = examine(parsed, now());
    if (!seen.registry) {
        complain(seen.known_hosts);
        return exit_code::kConfig;
    }
    Question question{options.get("peer"), options.get("service"), std::nullopt, now()};
    if (options.has("address")) {
        question.source = IpAddress::parse(options.get("address"));
        if (!question.source) return options.usage_error("--address: want an IP address");
    }
    return explain(question, parsed, *seen.registry);
}

}  // namespace

int check(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)")
        .value("peer", "P", "explain what this peer may do: a name of known_hosts, or a public key")
        .value("service", "S", "at this service")
        .value("address", "IP", "coming from this address")
        .flag("verbose,v", "show the limits in force too")
        .flag("production", "say for each item of docs/guides/production.md whether it is met")
        .flag("dial", "with --production: try the services behind and the tunnels too");
    if (const auto end = options.parse(arguments)) return *end;
    if (options.has("peer") != options.has("service"))
        return options.usage_error("--peer and --service go together");
    if (options.has("address") && !options.has("peer"))
        return options.usage_error("--address goes with --peer");
    if (options.has("dial") && !options.has("production"))
        return options.usage_error("--dial goes with --production");
    if (options.has("production") && options.has("peer"))
        return options.usage_error("--production and --peer are two questions");
    const auto parsed = load_config(options.has("config") ? options.get("config") : default_config());
    if (!parsed) return parsed.error();
    if (options.has("production"))
        return check_production(*parsed, options.has("dial") ? Dial::yes : Dial::no);
    return options.has("peer") ? explain_peer(options, *parsed)
                               : check_files(*parsed, options.has("verbose") ? Say::limits_too : Say::where);
}

}  // namespace curvegate::cli
