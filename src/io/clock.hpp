#pragma once

#include "base/time.hpp"

/// What time it is: asked by the actors, passed in everywhere below them.
namespace curvegate::io {

[[nodiscard]] inline Instant now() noexcept {
    return std::chrono::steady_clock::now();
}
[[nodiscard]] inline WallTime wall_now() noexcept {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

}  // namespace curvegate::io
