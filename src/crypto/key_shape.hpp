#pragma once

#include <string_view>

namespace curvegate::crypto {

/// May the text be a key (base64, hex, Z85), or one that was cut or has a few characters too many? It may be
/// a secret in the wrong place: no message repeats it.
[[nodiscard]] bool looks_like_key(std::string_view text);

}  // namespace curvegate::crypto
