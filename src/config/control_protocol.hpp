#pragma once

#include "base/exit_code.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

/// What both ends of the control socket begin with (docs/CONTROL.md): "curvegate-control 1 VERB WORD...", and
/// the lines of the answer.
namespace curvegate::config {

inline constexpr std::string_view kControlGreeting = "curvegate-control";
inline constexpr std::string_view kControlVersion = "1";

/// A line of the daemon's answer.
struct ControlAnswer {
    enum class Kind {
        out,    ///< `text` is for standard output
        err,    ///< `text` is for standard error
        end,    ///< nothing follows; `status` is the command's exit status
        other,  ///< no line of this protocol: it is passed over
    };
    Kind kind = Kind::other;
    std::string_view text;  ///< lies in the line
    int status = exit_code::kFailed;
};
/// `line` has no end of line. An end without a number means exit_code::kFailed.
[[nodiscard]] inline ControlAnswer parse_control_answer(std::string_view line) noexcept {
    using Kind = ControlAnswer::Kind;
    constexpr std::size_t kWord = 4;  // with the blank behind it
    const auto text = line.substr(std::min(line.size(), kWord));
    if (line.starts_with("out ")) return {Kind::out, text};
    if (line.starts_with("err ")) return {Kind::err, text};
    if (!line.starts_with("end ")) return {};
    ControlAnswer out{Kind::end, text};
    (void)std::from_chars(text.data(), text.data() + text.size(), out.status);
    return out;
}

}  // namespace curvegate::config
