#pragma once

#include "registry/known_hosts.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Changes to the text of a known_hosts file that leave every other line, comment and blank as it was.
namespace curvegate::registry {

/// The text with the entry as one more line at its end.
[[nodiscard]] std::string append_entry(std::string_view text, const Entry& entry);

/// The text with a `@revoked` line at its end for each of these keys that has none yet, under the names that
/// `entries` (which parse_known_hosts found in `text`) give it; one that it does not hold is named "revoked".
[[nodiscard]] std::string append_revoked(std::string_view text, const std::vector<Entry>& entries,
                                         const std::vector<crypto::PublicKey>& keys, WallTime now);

struct Removal {
    std::string text;
    std::size_t lines = 0;  ///< lines that lost the name; gone if it was their only one
    std::size_t revoked_lines =
        0;  ///< @revoked lines with the name: they stay, or the key would be trusted again
};
/// The text without `name`. `entries` are those that parse_known_hosts found in `text`.
[[nodiscard]] Removal remove_name(std::string_view text, const std::vector<Entry>& entries,
                                  std::string_view name);

}  // namespace curvegate::registry
