#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/nonce.hpp"
#include "crypto/secret.hpp"

#include <array>

namespace curvegate::crypto {

/// A keyed permutation of 16 bytes: a Feistel network of 8 rounds on 64-bit halves with SipHash-2-4
/// (PROTOCOL 6.2). Distinct counters give distinct nonces for certain, whatever the random half is, and
/// the nonce does not tell the counter.
class NoncePermutation {
  public:
    /// For the vault: keyed by a long-term secret and a salt. Errors: secrets_full, memory_not_locked.
    [[nodiscard]] static Result<NoncePermutation> derive(const LongTermSecret& secret, FixedBytes<16> salt);
    /// For the cookie keeper: keyed by a minute key.
    [[nodiscard]] static Result<NoncePermutation> derive(const MinuteKey& key);

    [[nodiscard]] LongTermNonce apply(std::uint64_t counter, std::uint64_t random) const noexcept;
    /// The counter that a nonce was made from.
    [[nodiscard]] std::uint64_t counter_of(const LongTermNonce& nonce) const noexcept;

  private:
    static constexpr std::size_t kRounds = 8;
    using Keys = std::array<PermutationKey, kRounds / 2>;
    explicit NoncePermutation(Keys&& keys) noexcept : keys_(std::move(keys)) {}
    [[nodiscard]] static Result<NoncePermutation> from_nonce_key(const PermutationKey& nonce_key);
    [[nodiscard]] std::uint64_t round(std::size_t i, std::uint64_t half) const noexcept;

    Keys keys_;  // two round keys of 16 bytes a slot
};

/// SipHash-2-4 under a 16-byte key: for tables that a stranger could try to fill unevenly.
[[nodiscard]] std::uint64_t siphash(FixedBytes<16> key, Bytes bytes) noexcept;

}  // namespace curvegate::crypto
