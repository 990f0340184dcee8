#pragma once

#include <string_view>

/// What both ends of the control socket begin with (docs/CONTROL.md): "curvegate-control 1 VERB WORD...".
namespace curvegate::config {

inline constexpr std::string_view kControlGreeting = "curvegate-control";
inline constexpr std::string_view kControlVersion = "1";

}  // namespace curvegate::config
