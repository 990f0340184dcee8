#include "daemon/parent/difference.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <unordered_map>

namespace curvegate::daemon::parent {
namespace {

using config::Config;

// ---- sections ----

/// The service as it is, wherever it stands in the file.
config::Service without_line(config::Service service) {
    service.line = service.accept_line = 0;
    return service;
}

std::unordered_map<std::string_view, const config::Service*> by_name(const Config& config) {
    std::unordered_map<std::string_view, const config::Service*> out;
    for (const auto& service : config.services) out.emplace(service.name, &service);
    return out;
}

void compare_services(const Config& before, const Config& after, std::vector<std::string>& out) {
    const auto old_ones = by_name(before);
    for (const auto& service : after.services) {
        const auto old = old_ones.find(service.name);
        if (old == old_ones.end()) {
            out.push_back("+ service " + service.name + " at " + service.accept.text());
        } else if (without_line(*old->second) != without_line(service)) {
            out.push_back("~ service " + service.name);
        }
    }
    const auto new_ones = by_name(after);
    for (const auto& service : before.services) {
        if (!new_ones.contains(service.name)) out.push_back("- service " + service.name);
    }
}

// ---- peers ----

std::vector<std::string> lines_of(const registry::Registry& registry) {
    std::vector<std::string> out;
    for (const auto& entry : registry.entries()) out.push_back(registry::format(entry));
    std::ranges::sort(out);
    return out;
}

void compare_peers(const registry::Registry& before, const registry::Registry& after,
                   std::vector<std::string>& out) {
    const auto old = lines_of(before);
    const auto now = lines_of(after);
    std::vector<std::string> come;
    std::vector<std::string> gone;
    std::ranges::set_difference(now, old, std::back_inserter(come));
    std::ranges::set_difference(old, now, std::back_inserter(gone));
    for (const auto& line : come) out.push_back("+ peer " + line);
    for (const auto& line : gone) out.push_back("- peer " + line);
}

// ---- globals ----

template <auto Member>
bool same(const Config& a, const Config& b) {
    return a.*Member == b.*Member;
}
template <auto Outer, auto Inner>
bool same(const Config& a, const Config& b) {
    return a.*Outer.*Inner == b.*Outer.*Inner;
}

constexpr std::string_view kApplied;  ///< by the reload
constexpr std::string_view kRestart = "changes after a restart only";

/// A key that stands above the sections and is no default of theirs, and what a reload makes of it: nothing,
/// if there are words for people.
struct Global {
    std::string_view key;
    bool (*is_same)(const Config&, const Config&);
    std::string_view words;
};

// tests/unit/daemon_parent_difference.cpp holds it against all keys that there are.
constexpr auto kGlobals = std::to_array<Global>({
    {"known-hosts", same<&Config::known_hosts>, "the vault reads the old file until a restart"},
    {"server-key", same<&Config::server_key>, kRestart},
    {"client-key", same<&Config::client_key>, kRestart},
    {"state-dir", same<&Config::state_dir>, kRestart},
    {"passphrase-file", same<&Config::passphrase_file>, kRestart},
    {"vault", same<&Config::vault_socket>, kRestart},
    {"vault-control", same<&Config::vault_control>, kRestart},
    {"control", same<&Config::control>, kRestart},
    {"control-group", same<&Config::control_group>, kRestart},
    {"status-group", same<&Config::status_group>, kRestart},
    {"metrics", same<&Config::metrics>, kRestart},
    {"log-file", same<&Config::log_file>, "changes with USR1 or a restart"},
    {"log-addresses", same<&Config::log_addresses>, kRestart},
    {"log-level", same<&Config::log_level>, kRestart},
    {"log-format", same<&Config::log_format>, kRestart},
    {"audit", same<&Config::audit>, kApplied},
    {"audit-required", same<&Config::audit_required>, kApplied},
    {"workers", same<&Config::workers>, kRestart},
    {"sandbox", same<&Config::sandbox>, kRestart},
    {"lock-memory", same<&Config::lock_memory>, kRestart},
    {"drain-timeout", same<&Config::timeouts, &config::Timeouts::drain>, kApplied},
    {"hello-timeout", same<&Config::timeouts, &config::Timeouts::hello>, kRestart},
    {"vouch-timeout", same<&Config::timeouts, &config::Timeouts::vouch>, kRestart},
    {"vault-timeout", same<&Config::timeouts, &config::Timeouts::vault>, kRestart},
    {"handshake-rate", same<&Config::admission, &service::Admission::handshake_rate>, kRestart},
    {"handshake-burst", same<&Config::admission, &service::Admission::handshake_burst>, kRestart},
    {"half-open-per-source", same<&Config::admission, &service::Admission::half_open_per_source>, kRestart},
    {"half-open", same<&Config::admission, &service::Admission::half_open>, kRestart},
    {"sessions", same<&Config::sessions>, kApplied},
});

void compare_globals(const Config& before, const Config& after, std::vector<std::string>& out) {
    for (const Global& global : kGlobals) {
        if (global.is_same(before, after)) continue;
        const std::string key(global.key);
        out.push_back(global.words.empty() ? "~ " + key : "! " + key + ": " + std::string(global.words));
    }
}

}  // namespace

std::vector<std::string> difference(const Loaded& before, const Loaded& after) {
    std::vector<std::string> out;
    compare_services(*before.config, *after.config, out);
    compare_peers(*before.registry, *after.registry, out);
    compare_globals(*before.config, *after.config, out);
    return out;
}

}  // namespace curvegate::daemon::parent
