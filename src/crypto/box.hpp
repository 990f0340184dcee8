#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/nonce.hpp"
#include "crypto/secret.hpp"

namespace curvegate::crypto {

/// Bytes that a box adds: the Poly1305 authenticator, which stands in front of the ciphertext.
inline constexpr std::size_t kBoxOverhead = 16;

/// crypto_box under a precomputed key (XSalsa20-Poly1305). `box.size()` must be `plain.size() + 16`.
void seal(const SharedKey& key, const Nonce& nonce, Bytes plain, MutableBytes box);
/// `plain.size()` must be `box.size() - 16`. Error: box_does_not_open; `plain` is then unspecified.
[[nodiscard]] Result<> open(const SharedKey& key, const Nonce& nonce, Bytes box, MutableBytes plain);

/// The same within one buffer: 16 bytes for the authenticator, then the text, replaced by its other form.
void seal_in_place(const SharedKey& key, const Nonce& nonce, MutableBytes box);
/// Error: box_does_not_open; the text is then unchanged.
[[nodiscard]] Result<> open_in_place(const SharedKey& key, const Nonce& nonce, MutableBytes box);

/// What a cookie holds: the client's short-term public key and the server's short-term secret.
struct CookieContents {
    PublicKey client_short;
    EphemeralSecret server_short;
};
inline constexpr std::size_t kCookieBoxSize = 80;

/// The secret box inside a cookie (PROTOCOL 4.2).
void seal_cookie(const CookieKey& key, const Nonce& nonce, const PublicKey& client_short,
                 const EphemeralSecret& server_short, MutableFixedBytes<kCookieBoxSize> box);
/// Errors: box_does_not_open, weak_key, secrets_full.
[[nodiscard]] Result<CookieContents> open_cookie(const CookieKey& key, const Nonce& nonce,
                                                 FixedBytes<kCookieBoxSize> box);

/// BLAKE2b-256 of `context` under the minute key: the key that seals cookies for that context.
[[nodiscard]] Result<CookieKey> derive_cookie_key(const MinuteKey& key, Bytes context);

}  // namespace curvegate::crypto
