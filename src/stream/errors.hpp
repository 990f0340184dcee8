#pragma once

#include <string_view>

namespace curvegate::stream {

enum class Errc {
    ack_of_unsent = 1,  ///< peer fault: it acknowledges bytes that were never sent. Close.
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "stream";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::ack_of_unsent: return "peer acknowledges bytes that were never sent";
    }
    return "unknown";
}

}  // namespace curvegate::stream
