#pragma once

#include "base/bytes.hpp"

namespace curvegate::crypto {

/// BLAKE2b-256 without a key.
[[nodiscard]] ByteArray<32> blake2b_256(Bytes bytes);

}  // namespace curvegate::crypto
