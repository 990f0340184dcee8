#pragma once

#include "config/config.hpp"
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

/// Why there is none: lines for people, and the exit status of a program that cannot start without.
struct LoadFailure {
    int status;
    std::vector<std::string> lines;

    /// Of a text that says what no configuration or known_hosts may say.
    [[nodiscard]] static LoadFailure of(const Problems& problems);
};

/// Of a configuration: what it says, or one a CPU.
[[nodiscard]] std::size_t worker_count(const config::Config& config);

/// A configuration that has been read and parsed, and the text of the known_hosts that it names. `sources`
/// are what `parsed` came from.
[[nodiscard]] std::expected<Loaded, LoadFailure> with_peers(config::Parsed&& parsed,
                                                            std::vector<config::Source> sources,
                                                            std::string known_hosts_text);
/// The same from texts alone: no file is opened.
[[nodiscard]] std::expected<Loaded, LoadFailure> parse(std::vector<config::Source> sources,
                                                       std::string known_hosts_text);

}  // namespace curvegate::daemon
