#pragma once

#include "base/random.hpp"
#include "base/result.hpp"
#include "crypto/nonce.hpp"
#include "crypto/permutation.hpp"
#include "vault/nonce_counter.hpp"

#include <utility>

namespace curvegate::vault {

/// Where the service takes long-term nonces from: each is given once. Tests pass recorded ones.
class NonceSource {
  public:
    virtual ~NonceSource() = default;
    /// An error: no nonce may be used now.
    [[nodiscard]] virtual Result<crypto::LongTermNonce> next() = 0;
};

/// A number from the counter and 64 random bits through the key's permutation (PROTOCOL 6.2): distinct for
/// certain while the counter file lives, and very likely still if an old copy of it is restored.
class PermutedNonces final : public NonceSource {
  public:
    PermutedNonces(crypto::NoncePermutation permutation, NonceCounter& counter, RandomSource& random) noexcept
        : permutation_(std::move(permutation)), counter_(&counter), random_(&random) {}

    [[nodiscard]] Result<crypto::LongTermNonce> next() override {
        const auto number = counter_->next();
        if (!number) return std::unexpected(number.error());
        ByteArray<8> random{};
        random_->fill(random);
        return permutation_.apply(*number, load_be<std::uint64_t>(random));
    }

  private:
    crypto::NoncePermutation permutation_;
    NonceCounter* counter_;
    RandomSource* random_;
};

}  // namespace curvegate::vault
