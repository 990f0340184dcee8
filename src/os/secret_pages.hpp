#pragma once

#include "base/secret_pages.hpp"

namespace curvegate::os {

/// Gives chunks of four pages between two guard pages, left out of core dumps, and locked where the system
/// allows it. It has no state, so any thread may call it.
[[nodiscard]] SecretPages& secret_pages() noexcept;

}  // namespace curvegate::os
