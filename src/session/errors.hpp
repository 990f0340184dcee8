#pragma once

#include <string_view>

namespace curvegate::session {

enum class Errc {
    wrong_number = 1,   ///< peer fault: lost, repeated, swapped, or after the last (tcp: close); repeated or
                        ///< too old (udp: drop).
    box_does_not_open,  ///< peer fault: changed on the way, or another key. Close (tcp) or drop (udp).
    message_too_long,   ///< caller's fault: over the limit. Refused before a number is used; the session goes
                        ///< on.
    numbers_exhausted,  ///< nobody's fault: the last number has been used. Close both ways.
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "session";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::wrong_number: return "message number is out of place";
        case Errc::box_does_not_open: return "message does not open";
        case Errc::message_too_long: return "message is longer than 65,503 bytes";
        case Errc::numbers_exhausted: return "message numbers are used up";
    }
    return "unknown";
}

}  // namespace curvegate::session
