#include "cli/exit.hpp"
#include "cli/explain.hpp"
#include "cli/key_checks.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"
#include "os/file.hpp"
#include "registry/text.hpp"

#include <chrono>
#include <set>

namespace curvegate::cli {
namespace {

WallTime now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

/// The known_hosts file that the configuration names; its problems are told.
Outcome<registry::Registry> load_registry(const config::Parsed& parsed) {
    const std::string& path = parsed.config.known_hosts;
    const auto text = os::read_checked(path, os::Privacy::trusted, kLongestFile);
    if (!text) {
        complain({{parsed.config.file, parsed.line_of("", "known-hosts"),
                   "known-hosts: " + text.error().detail()}});
        return std::unexpected(exit_code::kConfig);
    }
    auto entries = registry::parse_known_hosts(*text, path);
    if (entries) return registry::Registry(std::move(*entries));
    complain(entries.error());
    return std::unexpected(exit_code::kConfig);
}

/// Names in allow and peer against those of known_hosts.
class NameCheck {
  public:
    NameCheck(const config::Parsed& parsed, const registry::Registry& registry)
        : parsed_(parsed), registry_(registry) {
        for (const auto& entry : registry.entries()) names_.insert(entry.names.begin(), entry.names.end());
    }

    void run() {
        for (const config::Service& service : parsed_.config.services) {
            for (const auto& name : service.allow.names) check(service, "allow", name);
            if (service.side != config::Side::client) continue;
            for (const auto& peer : service.peers()) check(service, "peer", peer);
        }
    }

    Problems problems;
    Problems warnings;

  private:
    void check(const config::Service& service, std::string_view key, const std::string& name) {
        const std::size_t line = parsed_.line_of(service.name, key);
        if (!names_.contains(name)) {
            const std::vector<std::string_view> known(names_.begin(), names_.end());
            std::string text = std::string(key) + ": " + registry::quoted(name) + " is not in " +
                               parsed_.config.known_hosts + registry::did_you_mean(name, known);
            if (line == 0) text += " (peer = NAME, if it is not the host of connect)";
            problems.push_back(
                {parsed_.config.file, line != 0 ? line : parsed_.line_of(service.name, "connect"), text});
        } else if (registry_.keys_of(name, now()).empty()) {
            warnings.push_back({parsed_.config.file, line != 0 ? line : service.line,
                                std::string(key) + ": every key of " + registry::quoted(name) +
                                    " is revoked or has expired"});
        }
    }

    const config::Parsed& parsed_;
    const registry::Registry& registry_;
    std::set<std::string> names_;
};

/// An address of the tunnel's side with its carrier, and over udp: the service that is asked for there.
std::string tunnel_text(const config::Service& service, const config::Address& tunnel) {
    if (tunnel.kind != config::Address::Kind::udp) return "tcp:" + tunnel.text();
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
    return head + "client end: listens on " + service.accept.text() + ", connects to " + targets +
           failover_text(service);
}

/// How many sessions a service may have at once, and for how long.
std::string limits_of(const config::Service& service) {
    const auto& limits = service.limits;
    const std::string of_service = "sessions-per-service = " + std::to_string(limits.sessions_per_service);
    const std::string of_clients = ", sessions-per-peer = " + std::to_string(limits.sessions_per_peer) +
                                   ", sessions-per-source = " + std::to_string(limits.sessions_per_source);
    const bool datagrams = service.accept.kind == config::Address::Kind::udp;
    if (service.side == config::Side::server) return "      " + of_service + of_clients;
    return "      " + (datagrams ? "flows = " + std::to_string(service.flows) : of_service);
}
std::string limits_in_all(const config::Config& config) {
    const auto& strangers = config.admission;
    return "  in all: sessions = " + std::to_string(config.sessions) +
           ", half-open = " + std::to_string(strangers.half_open) +
           ", half-open-per-source = " + std::to_string(strangers.half_open_per_source);
}

enum class Say { where, limits_too };

int check_files(const config::Parsed& parsed, Say say) {
    complain(parsed.warnings, "warning: ");
    registry::ProblemList problems(parsed.config.file);
    const auto note = [&](const Problems& found) {
        for (const Problem& problem : found) problems.add(problem.line, problem.text);
    };
    note(check_keys(parsed));
    bool good = true;
    if (const auto registry = load_registry(parsed)) {
        NameCheck names(parsed, *registry);
        names.run();
        complain(parsed.config.located(names.warnings), "warning: ");
        note(names.problems);
    } else {
        good = false;  // and told
    }
    good = good && problems.empty();
    complain(parsed.config.located(problems.take()));
    if (!good) return exit_code::kConfig;
    const std::size_t count = parsed.config.services.size();
    print(parsed.config.file + " is fine: " + std::to_string(count) +
          (count == 1 ? " service" : " services"));
    for (const config::Service& service : parsed.config.services) {
        print(describe(service));
        if (say == Say::limits_too) print(limits_of(service));
    }
    if (say == Say::limits_too) print(limits_in_all(parsed.config));
    return finish_output();
}

int explain_peer(const Options& options, const config::Parsed& parsed) {
    const auto registry = load_registry(parsed);
    if (!registry) return registry.error();
    Question question{options.get("peer"), options.get("service"), std::nullopt, now()};
    if (options.has("address")) {
        question.source = IpAddress::parse(options.get("address"));
        if (!question.source) return options.usage_error("--address: want an IP address");
    }
    return explain(question, parsed, *registry);
}

}  // namespace

int check(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)")
        .value("peer", "P", "explain what this peer may do: a name of known_hosts, or a public key")
        .value("service", "S", "at this service")
        .value("address", "IP", "coming from this address")
        .flag("verbose,v", "show the limits in force too");
    if (const auto end = options.parse(arguments)) return *end;
    if (options.has("peer") != options.has("service"))
        return options.usage_error("--peer and --service go together");
    if (options.has("address") && !options.has("peer"))
        return options.usage_error("--address goes with --peer");
    const auto parsed = load_config(options.has("config") ? options.get("config") : default_config());
    if (!parsed) return parsed.error();
    return options.has("peer") ? explain_peer(options, *parsed)
                               : check_files(*parsed, options.has("verbose") ? Say::limits_too : Say::where);
}

}  // namespace curvegate::cli
