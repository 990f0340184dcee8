#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::daemon::front {

/// A verb and its words; never empty, and none of the words is.
using ControlWords = std::vector<std::string>;

/// Why a line is no request.
struct NotARequest {
    int status;       ///< for `end`: exit_code::kUsage, or kProtocol for another version
    std::string why;  ///< for `err`
};

/// Reads the one line of a client of the control socket (docs/CONTROL.md), without its end: the greeting, the
/// version, then the words, which any white space parts. The words may hold any other bytes.
[[nodiscard]] std::expected<ControlWords, NotARequest> parse_control_request(std::string_view line);

}  // namespace curvegate::daemon::front
