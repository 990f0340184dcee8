#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/box.hpp"
#include "crypto/nonce.hpp"
#include "crypto/secret.hpp"

/// The boxes that carry a connection's bytes: the same as seal_in_place() and open_in_place() of box.hpp
/// make, bit for bit, at half to four fifths of their cost.
namespace curvegate::crypto {

/// The key of the boxes of one purpose: HSalsa20 of the shared key and the 16 bytes with which all their
/// nonces begin. What is left of XSalsa20 is Salsa20 under this key and the packet's number. One key seals
/// what we send, another opens what the peer sends; no key does both.
using SealKey = Secret<SealTag>;
using OpenKey = Secret<OpenTag>;

/// Both live in the pool of `key`. Errors: secrets_full, memory_not_locked.
[[nodiscard]] Result<SealKey> derive_seal_key(const SharedKey& key, ShortPurpose ours);
[[nodiscard]] Result<OpenKey> derive_open_key(const SharedKey& key, ShortPurpose peers);

/// Uses `number` up; `form` writes it as on the wire. `box` is 16 bytes for the authenticator, then the text,
/// replaced by its ciphertext.
void seal_in_place(const SealKey& key, FreshNumber number, NumberForm form, MutableBytes box);
/// `number` is the packet number as its 8 bytes on the wire. Error: box_does_not_open; the text is then
/// unchanged.
[[nodiscard]] Result<> open_in_place(const OpenKey& key, FixedBytes<8> number, MutableBytes box);

}  // namespace curvegate::crypto
