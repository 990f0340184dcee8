#pragma once

#include "config/config.hpp"
#include "os/socket.hpp"
#include "registry/registry.hpp"

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace curvegate::daemon {

/// A configuration with the peers that it names, checked as a whole.
struct Loaded {
    std::shared_ptr<const config::Config> config;
    std::shared_ptr<const registry::Registry> registry;
    Problems warnings;
    std::vector<config::Source> sources;  ///< of the configuration: the main file, then the included ones
    std::string known_hosts_text;
    std::optional<std::string> lowered;  ///< limits that the descriptors of this process cannot hold
};

/// Of a configuration: what it says, or one a CPU.
[[nodiscard]] std::size_t worker_count(const config::Config& config);

/// Why there is none: lines for people, and the exit status of a program that cannot start without.
struct LoadFailure {
    int status;
    std::vector<std::string> lines;
};

/// Reads the configuration file, those that it includes, and the known_hosts that it names. All must be
/// nobody else's to write.
[[nodiscard]] std::expected<Loaded, LoadFailure> load(const std::string& file);
/// The same from texts that were read before.
[[nodiscard]] std::expected<Loaded, LoadFailure> parse(std::vector<config::Source> sources,
                                                       std::string known_hosts_text);

/// What a reload changes, line by line, for people: services, peers, and what takes a restart.
[[nodiscard]] std::vector<std::string> difference(const Loaded& before, const Loaded& after);

/// Adds `@revoked` lines for these keys to the file, under its lock; keys that have one are left out. Error:
/// os system.
[[nodiscard]] Result<> write_revoked(const std::string& known_hosts,
                                     const std::vector<crypto::PublicKey>& keys);

}  // namespace curvegate::daemon
