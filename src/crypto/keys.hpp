#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/secret.hpp"

#include <string>
#include <string_view>

namespace curvegate::crypto {

/// A Curve25519 public key, 32 bytes, always canonical (below 2^255-19, high bit clear) and not of low
/// order: there is one PublicKey a peer, so tables may be keyed by it (PROTOCOL 2.2).
class PublicKey {
  public:
    static constexpr std::size_t kSize = 32;

    /// Error: weak_key.
    [[nodiscard]] static Result<PublicKey> parse(FixedBytes<kSize> bytes);
    /// From base64, hex or Z85 text. Errors: bad_key_text, weak_key.
    [[nodiscard]] static Result<PublicKey> from_text(std::string_view text);

    [[nodiscard]] FixedBytes<kSize> bytes() const noexcept { return bytes_; }
    /// Base64, 44 characters, as `wg` prints keys.
    [[nodiscard]] std::string text() const;
    friend auto operator<=>(const PublicKey&, const PublicKey&) = default;

  private:
    explicit PublicKey(const ByteArray<kSize>& bytes) noexcept : bytes_(bytes) {}
    ByteArray<kSize> bytes_;
};

/// Reads 32 bytes as base64 (43 or 44 characters), hex (64) or, unless all are hex digits, Z85 (40), in time
/// that does not depend on the digits of base64 or hex. Error: bad_key_text; the detail says why.
[[nodiscard]] Result<> decode_key(std::string_view text, MutableFixedBytes<32> out);

enum class KeyFormat { base64, hex, z85 };
[[nodiscard]] std::string encode_key(FixedBytes<32> bytes, KeyFormat format);

/// "SHA256:" and the unpadded base64 of the key's SHA-256, as ssh prints fingerprints.
[[nodiscard]] std::string fingerprint(const PublicKey& key);

/// A short-term key pair for one connection.
struct EphemeralKeyPair {
    PublicKey public_key;
    EphemeralSecret secret;

    /// Errors: secrets_full, memory_not_locked.
    [[nodiscard]] static Result<EphemeralKeyPair> generate(SecretPool& pool, RandomSource& random);
};

/// X25519 of the secret and the base point.
[[nodiscard]] Result<PublicKey> public_key_of(const EphemeralSecret& secret);
[[nodiscard]] Result<PublicKey> public_key_of(const LongTermSecret& secret);

/// crypto_box_beforenm: X25519, then HSalsa20. Lives in the secret's pool.
/// Errors: weak_key, secrets_full, memory_not_locked.
[[nodiscard]] Result<SharedKey> agree(const EphemeralSecret& own, const PublicKey& peer);
[[nodiscard]] Result<SharedKey> agree(const LongTermSecret& own, const PublicKey& peer);

/// Compares in time that depends on the length only.
[[nodiscard]] bool equal_constant_time(FixedBytes<32> a, const ByteArray<32>& b) noexcept;

}  // namespace curvegate::crypto

template <>
struct std::hash<curvegate::crypto::PublicKey> {
    /// For tables of keys that stand in a file: no stranger chooses them.
    std::size_t operator()(const curvegate::crypto::PublicKey& key) const noexcept {
        return curvegate::load_be<std::uint64_t>(key.bytes().template first<8>());
    }
};
