#pragma once

#include <string_view>

namespace curvegate::audit {

/// Why a file of lines is not one unbroken chain (PROTOCOL 11.5): somebody changed it, or a crash cut it.
/// Response: `audit verify` names the line and ends with 65; the daemon does not write on behind it.
enum class Errc {
    bad_form = 1,      ///< not a line of the format, byte for byte
    hash_differs,      ///< the line was changed
    sequence_jumps,    ///< lines are missing, or one stands twice
    previous_differs,  ///< the line before it is another one
    incomplete,        ///< the last line has no end
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "audit";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::bad_form: return "not a line of an audit file";
        case Errc::hash_differs: return "the line's hash is not that of its content: it was changed";
        case Errc::sequence_jumps: return "the line's number is not the next one: lines are missing or moved";
        case Errc::previous_differs: return "the line does not follow the one before it";
        case Errc::incomplete: return "the last line is incomplete";
    }
    return "unknown";
}

}  // namespace curvegate::audit
