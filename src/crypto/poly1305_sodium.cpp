#include "crypto/poly1305.hpp"

namespace curvegate::crypto {

Poly1305::Poly1305(FixedBytes<32> key) noexcept {
    ::crypto_onetimeauth_init(&state_, key.data());
}

void Poly1305::update(Bytes part) noexcept {
    ::crypto_onetimeauth_update(&state_, part.data(), part.size());
}

void Poly1305::finish(MutableFixedBytes<kTagSize> tag) noexcept {
    ::crypto_onetimeauth_final(&state_, tag.data());
    ::sodium_memzero(&state_, sizeof state_);
}

}  // namespace curvegate::crypto
