#include "cli/production.hpp"
#include "registry/dates.hpp"

#include <algorithm>
#include <map>
#include <set>

/// Items 14 to 19: who may use what, and for how long.
namespace curvegate::cli::rules {
namespace {

constexpr auto kSoon = std::chrono::days(30);
constexpr std::size_t kMostKeys = 2;

Finding no_registry() {
    return not_checked("known_hosts cannot be read: see item 1");
}

std::set<std::string> named_peers(const config::Config& config) {
    std::set<std::string> out;
    for (const auto& service : config.services) {
        out.insert(service.allow.names.begin(), service.allow.names.end());
        if (service.side != config::Side::client) continue;
        for (const auto& peer : service.peers()) out.insert(peer);
    }
    return out;
}

bool is_live(const registry::Registry& registry, const registry::Entry& entry, WallTime at) {
    return !registry.is_revoked(entry.key) && (!entry.valid_until || *entry.valid_until > at);
}

/// The lines of a name whose keys are good at that time.
std::vector<const registry::Entry*> live_lines(const registry::Registry& registry, const std::string& name,
                                               WallTime at) {
    std::vector<const registry::Entry*> out;
    for (const auto& entry : registry.entries()) {
        const bool named = std::ranges::find(entry.names, name) != entry.names.end();
        if (named && is_live(registry, entry, at)) out.push_back(&entry);
    }
    return out;
}

}  // namespace

Finding no_star(const Facts& facts) {
    for (const auto& service : facts.config().services) {
        if (service.allow.any)
            return not_met("[" + service.name + "] has allow = *", "name its peers in allow");
    }
    return met();
}

Finding peers_live(const Facts& facts) {
    if (!facts.examined.registry) return no_registry();
    for (const auto& name : named_peers(facts.config())) {
        if (live_lines(*facts.examined.registry, name, facts.now).empty())
            return not_met(name + " has no key that is good now",
                           "curvegate peers add " + name + " KEY, or take it out");
    }
    return met();
}

Finding expiry_near(const Facts& facts) {
    if (!facts.examined.registry) return no_registry();
    const auto& registry = *facts.examined.registry;
    for (const auto& name : named_peers(facts.config())) {
        const auto now = live_lines(registry, name, facts.now);
        if (now.empty() || !live_lines(registry, name, facts.now + kSoon).empty()) continue;
        const auto last = std::ranges::max_element(
            now, {}, [](const registry::Entry* entry) { return *entry->valid_until; });
        return not_met(
            name + " has no key that is good after " + registry::format_valid_until(*(*last)->valid_until),
            "add the next one");
    }
    return met();
}

Finding one_key_one_name(const Facts& facts) {
    if (!facts.examined.registry) return no_registry();
    std::map<std::string, const registry::Entry*> seen;
    for (const auto& entry : facts.examined.registry->entries()) {
        if (!is_live(*facts.examined.registry, entry, facts.now)) continue;
        const std::string line = "line " + std::to_string(entry.line) + " of " + facts.config().known_hosts;
        const auto [first, is_new] = seen.emplace(entry.key.text(), &entry);
        if (!is_new) {
            return not_met(line + " has the key of line " + std::to_string(first->second->line),
                           "make a key for each machine");
        }
        if (std::set(entry.names.begin(), entry.names.end()).size() > 1)
            return not_met(line + " gives one key more than one name", "make a key for each machine");
    }
    return met();
}

Finding few_keys(const Facts& facts) {
    if (!facts.examined.registry) return no_registry();
    std::map<std::string, std::set<std::string>> keys;
    for (const auto& entry : facts.examined.registry->entries()) {
        if (!is_live(*facts.examined.registry, entry, facts.now)) continue;
        for (const auto& name : entry.names) keys[name].insert(entry.key.text());
    }
    for (const auto& [name, all] : keys) {
        if (all.size() > kMostKeys)
            return not_met(name + " has " + std::to_string(all.size()) + " live keys",
                           "revoke those that it left");
    }
    return met();
}

Finding clock(const Facts& facts) {
    if (!facts.examined.registry) return no_registry();
    const auto& entries = facts.examined.registry->entries();
    const bool asked =
        std::ranges::any_of(entries, [](const auto& entry) { return entry.valid_until.has_value(); });
    if (!asked || facts.clock_set) return met();
    return not_met("known_hosts has valid-until= and the kernel's clock is not synchronised",
                   "start an NTP client");
}

}  // namespace curvegate::cli::rules
