#pragma once

#include "cli/exit.hpp"
#include "config/config.hpp"

#include <string>

namespace curvegate::cli {

/// No file that a person writes is longer than this (bytes).
inline constexpr std::size_t kLongestFile = std::size_t{16} * 1024 * 1024;

/// /etc/curvegate for root, ~/.config/curvegate for others.
[[nodiscard]] std::string default_folder();
[[nodiscard]] std::string default_config();
/// That of the default configuration if it can be read and names one, else known_hosts in the default folder.
[[nodiscard]] std::string default_known_hosts();

/// The text of a configuration, or the exit status of what was told.
[[nodiscard]] Outcome<std::string> read_config(const std::string& path);

/// Reads and parses a configuration. Problems are told (warnings are not: they stand in the value).
[[nodiscard]] Outcome<config::Parsed> load_config(const std::string& path);

}  // namespace curvegate::cli
