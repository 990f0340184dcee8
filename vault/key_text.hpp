#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "vault/key_file.hpp"
#include "vault/key_seal.hpp"

#include <optional>
#include <string_view>

namespace curvegate::vault {

/// No key file is longer.
inline constexpr std::size_t kLongestKeyFile = 1024;

/// Writes a key file's text to `out` (locked memory of kLongestKeyFile bytes): the secret itself, or its
/// sealed form if that is given. Gives the length.
[[nodiscard]] std::size_t format_key(const LongTermKey& key, const std::optional<SealedSecret>& sealed,
                                     MutableBytes out);

}  // namespace curvegate::vault
