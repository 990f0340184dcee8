#pragma once

#include "status/snapshot.hpp"

#include <string>

namespace curvegate::status {

/// One JSON object on one line, without the line's end: docs/CONTROL.md lists its keys. Plain UTF-8 whatever
/// the names hold: bytes that are no UTF-8 become U+FFFD, controls are escaped.
[[nodiscard]] std::string render_json(const Snapshot& snapshot);

}  // namespace curvegate::status
