#pragma once

#include "base/bytes.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "crypto/secret.hpp"
#include "vault/key_file.hpp"

namespace curvegate::vault {

/// What Argon2id costs. Bounded when a file is read: a forged file must not eat the machine.
struct SealCost {
    std::uint32_t ops = 3;
    std::uint32_t kib = 256 * 1024;
    friend bool operator==(const SealCost&, const SealCost&) = default;

    [[nodiscard]] bool in_bounds() const noexcept {
        return ops >= 1 && ops <= 16 && kib >= 8 * 1024 && kib <= 1024 * 1024;
    }
};

/// A long-term secret under a passphrase. Argon2id (version 1.3, one lane) of passphrase and salt gives 64
/// bytes: 32 for the box (XSalsa20-Poly1305), then the commitment. Poly1305 alone would let one file open
/// under two passphrases; the commitment, compared first, makes the file open under one only.
struct SealedSecret {
    SealCost cost;
    ByteArray<16> salt{};
    ByteArray<32> commitment{};
    ByteArray<24> nonce{};
    ByteArray<48> box{};
};

/// Errors: unreadable (no memory for Argon2id).
[[nodiscard]] Result<SealedSecret> seal_secret(const crypto::LongTermSecret& secret, Bytes passphrase,
                                               SealCost cost, RandomSource& random);
/// Errors: wrong_passphrase, malformed (the passphrase is right, the box was changed), unreadable (no memory
/// for Argon2id), and the pool's.
[[nodiscard]] Result<crypto::LongTermSecret> unseal_secret(const SealedSecret& sealed, Bytes passphrase,
                                                           crypto::SecretPool& pool);

}  // namespace curvegate::vault
