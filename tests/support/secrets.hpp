#pragma once

#include "crypto/keys.hpp"
#include "crypto/nonce.hpp"
#include "crypto/secret.hpp"
#include "crypto/secret_bytes.hpp"
#include "os/secret_pages.hpp"
#include "support/bytes.hpp"

namespace curvegate::test {

/// One pool for all tests of a program; where memory cannot be locked they run all the same.
inline crypto::SecretPool& pool() {
    static const auto instance =
        crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 65'536);
    return **instance;
}

/// A secret with known bytes.
template <class Secret>
Secret secret_of(ByteArray<32> bytes) {
    return *Secret::adopt(pool(), bytes);
}
template <class Secret>
Secret secret_of(std::string_view hex_digits) {
    return secret_of<Secret>(unhex_array<32>(hex_digits));
}
/// A different secret for each number (not in the first byte, of which X25519 ignores three bits).
template <class Secret>
Secret secret_number(Byte number) {
    ByteArray<32> bytes{};
    bytes.fill(0x42);
    bytes[1] = number;
    return secret_of<Secret>(bytes);
}

inline crypto::EphemeralKeyPair key_pair_of(const ByteArray<32>& secret_bytes) {
    auto secret = secret_of<crypto::EphemeralSecret>(secret_bytes);
    const auto public_key = *public_key_of(secret);
    return {public_key, std::move(secret)};
}

inline crypto::LongTermNonce nonce_number(std::uint64_t number) {
    crypto::LongTermNonce out;
    Writer(out.bytes).integer(std::uint64_t{0xabcdef}).integer(number);
    return out;
}

}  // namespace curvegate::test
