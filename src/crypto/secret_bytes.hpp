#pragma once

#include "crypto/secret.hpp"

namespace curvegate::crypto {

/// The only way to a secret's bytes. tests/layering checks that no file outside src/crypto, vault/ and the
/// tests includes this header.
struct SecretBytes {
    template <class Tag>
    [[nodiscard]] static FixedBytes<32> of(const Secret<Tag>& secret) noexcept {
        return FixedBytes<32>(secret.slot_, 32);
    }
    template <class Tag>
    [[nodiscard]] static MutableFixedBytes<32> of(Secret<Tag>& secret) noexcept {
        return MutableFixedBytes<32>(secret.slot_, 32);
    }
    /// A zeroed secret to be filled in place.
    template <class Tag>
    [[nodiscard]] static Result<Secret<Tag>> blank(SecretPool& pool) {
        return Secret<Tag>::blank(pool);
    }
};

}  // namespace curvegate::crypto
