#pragma once

#include "audit/errors.hpp"
#include "base/result.hpp"
#include "base/time.hpp"

#include <cstdint>
#include <string>
#include <string_view>

/// The lines of an audit file (PROTOCOL 11.5): each a JSON object with the hash of the one before it.
namespace curvegate::audit {

/// A decision. Texts may hold any bytes; what stands behind the first 255 of one is left out.
struct Entry {
    // NOLINTBEGIN(readability-redundant-member-init): GCC 12 warns of what an initialiser leaves out without
    std::string_view event = {};
    std::string_view service = {};
    std::string_view peer = {};
    std::string_view key = {};  ///< text of a public key
    std::string_view source = {};
    std::string_view reason = {};
    std::string_view by = {};  ///< who asked for it
    // NOLINTEND(readability-redundant-member-init)
    std::uint64_t generation = 0;  ///< of the configuration
    std::uint64_t count = 1;       ///< what it counts depends on the event
};

/// The end of a chain: what the next line must know of the last one.
struct Link {
    std::uint64_t sequence = 0;               ///< 0: there is no line yet
    std::string hash = std::string(64, '0');  ///< 64 lower-case hexadecimal digits
    friend bool operator==(const Link&, const Link&) = default;
};

/// No line is longer, its end included, in bytes.
inline constexpr std::size_t kLongestLine = 16'384;

/// A line without its end, and what the next one must know of it.
struct Line {
    std::string text;
    Link link;
};
[[nodiscard]] Line line_after(const Link& last, const Entry& entry, WallTime at);

/// What a reader needs of a line.
struct ParsedLine {
    Link link;             ///< of this line; its hash has been compared
    std::string previous;  ///< hash of the line before
    std::string time;      ///< RFC 3339, UTC
};
/// Takes a line without its end, byte for byte as line_after() writes it. Errors: bad_form, hash_differs.
[[nodiscard]] Result<ParsedLine> parse_line(std::string_view line);

}  // namespace curvegate::audit
