#include "daemon/loaded.hpp"

#include "config/descriptors.hpp"
#include "os/descriptors.hpp"

#include <algorithm>
#include <thread>

namespace curvegate::daemon {
namespace {

constexpr int kConfig = 78;  // EX_CONFIG

}  // namespace

LoadFailure LoadFailure::of(const Problems& problems) {
    LoadFailure out{kConfig, {}};
    for (const Problem& problem : problems) out.lines.push_back(problem.message());
    return out;
}

std::size_t worker_count(const config::Config& config) {
    if (config.workers != 0) return config.workers;
    return std::max(1U, std::thread::hardware_concurrency());
}

std::expected<Loaded, LoadFailure> with_peers(config::Parsed&& parsed, std::vector<config::Source> sources,
                                              std::string known_hosts_text) {
    auto entries = registry::parse_known_hosts(known_hosts_text, parsed.config.known_hosts);
    if (!entries) return std::unexpected(LoadFailure::of(entries.error()));
    const auto limit = os::descriptor_limit();
    auto lowered =
        config::fit_to_descriptors(parsed.config, worker_count(parsed.config), limit, os::kept_back(limit));
    return Loaded{std::make_shared<const config::Config>(std::move(parsed.config)),
                  std::make_shared<const registry::Registry>(std::move(*entries)),
                  std::move(parsed.warnings),
                  std::move(sources),
                  std::move(known_hosts_text),
                  std::move(lowered)};
}

std::expected<Loaded, LoadFailure> parse(std::vector<config::Source> sources, std::string known_hosts_text) {
    auto parsed = config::parse(sources);
    if (!parsed) return std::unexpected(LoadFailure::of(parsed.error()));
    return with_peers(std::move(*parsed), std::move(sources), std::move(known_hosts_text));
}

}  // namespace curvegate::daemon
