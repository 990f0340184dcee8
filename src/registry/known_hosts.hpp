#pragma once

#include "base/ip.hpp"
#include "base/problem.hpp"
#include "base/time.hpp"
#include "crypto/keys.hpp"

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::registry {

/// One line of known_hosts: `[@revoked] [from=CIDR,...] [valid-until=DATE] name[,name...] curve25519 KEY
/// [comment]`
struct Entry {
    bool revoked = false;
    std::vector<IpBlock> from;            ///< empty: any address
    std::optional<WallTime> valid_until;  ///< first moment at which it is no longer valid; nothing: for ever
    std::vector<std::string> names;       ///< literal, at least one
    crypto::PublicKey key;
    std::string comment;
    std::size_t line = 0;
};

/// Parses a whole file; `file` is named in problems. Empty lines and lines that begin with # are skipped.
/// Any bad line refuses the file: all problems are reported.
[[nodiscard]] std::expected<std::vector<Entry>, Problems> parse_known_hosts(std::string_view text,
                                                                            std::string_view file);
/// The entry as one line without its end, so that parsing it gives the entry back.
[[nodiscard]] std::string format(const Entry& entry);

/// DATE: YYYY-MM-DD (through that day, UTC) or RFC 3339 ("2030-01-31T12:00:00Z", offsets allowed).
[[nodiscard]] std::optional<WallTime> parse_valid_until(std::string_view text);

/// A peer's or section's name: letters, digits, `.`, `-`, `_`, `:`, at most 255 bytes; "*" is not one.
[[nodiscard]] bool is_valid_name(std::string_view name);

}  // namespace curvegate::registry
