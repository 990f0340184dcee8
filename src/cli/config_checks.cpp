#include "cli/config_checks.hpp"

#include "cli/address_checks.hpp"
#include "cli/key_checks.hpp"
#include "cli/places.hpp"
#include "os/file.hpp"
#include "text/reading.hpp"

#include <set>

namespace curvegate::cli {
namespace {

/// Why there is no registry, and the status with which a daemon would end for it.
struct NoRegistry {
    Problems problems;
    int status = exit_code::kConfig;
};

/// The known_hosts file that the configuration names.
std::expected<registry::Registry, NoRegistry> load_registry(const config::Parsed& parsed) {
    const std::string& path = parsed.config.known_hosts;
    const auto text = os::read_linked(path, kLongestFile);
    if (!text) {
        const int status = exit_for_reading(path);
        const std::string cure =
            status == exit_code::kNoInput ? " (curvegate peers add NAME KEY --known-hosts " + path + ")" : "";
        return std::unexpected(NoRegistry{{{parsed.config.file, parsed.line_of("", "known-hosts"),
                                            "known-hosts: " + text.error().detail() + cure}},
                                          status});
    }
    auto entries = registry::parse_known_hosts(*text, path);
    if (entries) return registry::Registry(std::move(*entries));
    return std::unexpected(NoRegistry{std::move(entries.error())});
}

/// Names in allow and peer against those of known_hosts.
class NameCheck {
  public:
    NameCheck(const config::Parsed& parsed, const registry::Registry& registry, WallTime now)
        : parsed_(parsed), registry_(registry), now_(now) {
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
            std::string text = std::string(key) + ": " + text::quoted(name) + " is not in " +
                               parsed_.config.known_hosts + text::did_you_mean(name, known);
            if (line == 0) text += " (peer = NAME, if it is not the host of connect)";
            problems.push_back(
                {parsed_.config.file, line != 0 ? line : parsed_.line_of(service.name, "connect"), text});
        } else if (registry_.keys_of(name, now_).empty()) {
            warnings.push_back(
                {parsed_.config.file, line != 0 ? line : service.line,
                 std::string(key) + ": every key of " + text::quoted(name) + " is revoked or has expired"});
        }
    }

    const config::Parsed& parsed_;
    const registry::Registry& registry_;
    WallTime now_;
    std::set<std::string> names_;
};

}  // namespace

Examined examine(const config::Parsed& parsed, WallTime now) {
    Examined out;
    out.warnings = parsed.warnings;
    text::ProblemList problems(parsed.config.file);
    const auto note = [&](const Problems& found) {
        for (const Problem& problem : found) problems.add(problem.line, problem.text);
    };
    const KeyProblems keys = check_keys(parsed);
    note(keys.problems);
    out.status = keys.status;
    const AddressChecks addresses = check_addresses(parsed);
    note(addresses.problems);
    const Problems absent = parsed.config.located(addresses.warnings);
    out.warnings.insert(out.warnings.end(), absent.begin(), absent.end());
    if (auto registry = load_registry(parsed)) {
        NameCheck names(parsed, *registry, now);
        names.run();
        const Problems warnings = parsed.config.located(names.warnings);
        out.warnings.insert(out.warnings.end(), warnings.begin(), warnings.end());
        note(names.problems);
        if (!names.problems.empty()) out.status = exit_code::kConfig;
        out.registry = std::move(*registry);
    } else {
        out.known_hosts = std::move(registry.error().problems);
        const bool same = out.status == exit_code::kOk || out.status == registry.error().status;
        out.status = same ? registry.error().status : exit_code::kConfig;
    }
    if (!addresses.problems.empty())
        out.status = out.status == exit_code::kOk ? exit_code::kUnavailable : exit_code::kConfig;
    out.problems = parsed.config.located(problems.take());
    return out;
}

}  // namespace curvegate::cli
