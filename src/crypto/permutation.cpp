#include "crypto/permutation.hpp"

#include "crypto/secret_bytes.hpp"

#include <sodium.h>

#include <array>
#include <string_view>

namespace curvegate::crypto {
namespace {

constexpr std::string_view kLongTermLabel = "curvegate nonce";
constexpr std::string_view kMinuteLabel = "curvegate cookie nonce";
constexpr std::array<char, crypto_kdf_CONTEXTBYTES> kRoundContext = {'c', 'g', 'n', 'o', 'n', 'c', 'e', '1'};
constexpr std::size_t kRoundKeySize = 16;

template <class Tag>
Result<PermutationKey> keyed_hash(const Secret<Tag>& key, std::string_view label, Bytes salt) {
    auto out = SecretBytes::blank<PermutationTag>(key.pool());
    if (!out) return out;
    crypto_generichash_state state;
    const auto secret = SecretBytes::of(key);
    ::crypto_generichash_init(&state, secret.data(), secret.size(), 32);
    ::crypto_generichash_update(&state, as_bytes(label).data(), label.size());
    ::crypto_generichash_update(&state, salt.data(), salt.size());
    ::crypto_generichash_final(&state, SecretBytes::of(*out).data(), 32);
    ::sodium_memzero(&state, sizeof state);
    return out;
}

}  // namespace

std::uint64_t siphash(FixedBytes<16> key, Bytes bytes) noexcept {
    ByteArray<8> out{};
    ::crypto_shorthash(out.data(), bytes.data(), bytes.size(), key.data());
    return load_be<std::uint64_t>(out);
}

Result<NoncePermutation> NoncePermutation::derive(const LongTermSecret& secret, FixedBytes<16> salt) {
    auto nonce_key = keyed_hash(secret, kLongTermLabel, salt);
    if (!nonce_key) return fail(std::move(nonce_key));
    return from_nonce_key(*nonce_key);
}

Result<NoncePermutation> NoncePermutation::derive(const MinuteKey& key) {
    auto nonce_key = keyed_hash(key, kMinuteLabel, {});
    if (!nonce_key) return fail(std::move(nonce_key));
    return from_nonce_key(*nonce_key);
}

Result<NoncePermutation> NoncePermutation::from_nonce_key(const PermutationKey& nonce_key) {
    std::vector<PermutationKey> pairs;
    for (std::size_t i = 0; i < kRounds; i += 2) {
        auto pair = SecretBytes::blank<PermutationTag>(nonce_key.pool());
        if (!pair) return fail(std::move(pair));
        for (std::size_t j = 0; j < 2; ++j) {
            ::crypto_kdf_derive_from_key(SecretBytes::of(*pair).data() + j * kRoundKeySize, kRoundKeySize,
                                         i + j, kRoundContext.data(), SecretBytes::of(nonce_key).data());
        }
        pairs.push_back(std::move(*pair));
    }
    return NoncePermutation(
        Keys{std::move(pairs[0]), std::move(pairs[1]), std::move(pairs[2]), std::move(pairs[3])});
}

std::uint64_t NoncePermutation::round(std::size_t i, std::uint64_t half) const noexcept {
    const auto keys = SecretBytes::of(keys_[i / 2]);
    return siphash(keys.subspan((i % 2) * kRoundKeySize).first<kRoundKeySize>(), to_be(half));
}

LongTermNonce NoncePermutation::apply(std::uint64_t counter, std::uint64_t random) const noexcept {
    std::uint64_t left = counter;
    std::uint64_t right = random;
    for (std::size_t i = 0; i < kRounds; ++i) left = std::exchange(right, left ^ round(i, right));
    LongTermNonce out;
    Writer(out.bytes).integer(left).integer(right);
    return out;
}

std::uint64_t NoncePermutation::counter_of(const LongTermNonce& nonce) const noexcept {
    Reader reader(nonce.bytes);
    auto left = reader.integer<std::uint64_t>();
    auto right = reader.integer<std::uint64_t>();
    for (std::size_t i = kRounds; i-- > 0;) right = std::exchange(left, right ^ round(i, left));
    return left;
}

}  // namespace curvegate::crypto
