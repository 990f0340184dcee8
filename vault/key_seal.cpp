#include "vault/key_seal.hpp"

#include "crypto/secret_bytes.hpp"
#include "vault/locked_buffer.hpp"

#include <sodium.h>

namespace curvegate::vault {
namespace {

constexpr std::size_t kBoxKeySize = crypto_secretbox_KEYBYTES;
constexpr std::size_t kDerivedSize = kBoxKeySize + sizeof(SealedSecret::commitment);
static_assert(sizeof(SealedSecret::salt) == crypto_pwhash_argon2id_SALTBYTES);
static_assert(sizeof(SealedSecret::nonce) == crypto_secretbox_NONCEBYTES);
static_assert(sizeof(SealedSecret::box) == crypto::LongTermSecret::kSize + crypto_secretbox_MACBYTES);

/// Box key, then commitment.
Result<> derive(const SealedSecret& sealed, Bytes passphrase, const LockedBuffer& out) {
    const std::size_t memory = std::size_t{sealed.cost.kib} * 1024;
    const auto* text = reinterpret_cast<const char*>(passphrase.data());
    if (::crypto_pwhash_argon2id(out.bytes().data(), out.bytes().size(), text, passphrase.size(),
                                 sealed.salt.data(), sealed.cost.ops, memory,
                                 crypto_pwhash_argon2id_ALG_ARGON2ID13) != 0) {
        return fail(KeyFileErrc::unreadable, "Argon2id needs " + std::to_string(memory / 1024 / 1024) +
                                                 " MiB of memory and cannot get them");
    }
    return {};
}

}  // namespace

Result<SealedSecret> seal_secret(const crypto::LongTermSecret& secret, Bytes passphrase, SealCost cost,
                                 RandomSource& random) {
    SealedSecret sealed;
    sealed.cost = cost;
    random.fill(sealed.salt);
    random.fill(sealed.nonce);
    const LockedBuffer derived(kDerivedSize);
    if (auto done = derive(sealed, passphrase, derived); !done) return fail(std::move(done));
    std::ranges::copy(derived.bytes().subspan(kBoxKeySize), sealed.commitment.begin());
    const auto plain = crypto::SecretBytes::of(secret);
    ::crypto_secretbox_easy(sealed.box.data(), plain.data(), plain.size(), sealed.nonce.data(),
                            derived.bytes().data());
    return sealed;
}

Result<crypto::LongTermSecret> unseal_secret(const SealedSecret& sealed, Bytes passphrase,
                                             crypto::SecretPool& pool) {
    const LockedBuffer derived(kDerivedSize);
    if (auto done = derive(sealed, passphrase, derived); !done) return fail(std::move(done));
    const MutableBytes commitment = derived.bytes().subspan(kBoxKeySize);
    if (::sodium_memcmp(commitment.data(), sealed.commitment.data(), sealed.commitment.size()) != 0) {
        return fail(KeyFileErrc::wrong_passphrase);
    }
    auto secret = crypto::SecretBytes::blank<crypto::LongTermTag>(pool);
    if (!secret) return secret;
    if (::crypto_secretbox_open_easy(crypto::SecretBytes::of(*secret).data(), sealed.box.data(),
                                     sealed.box.size(), sealed.nonce.data(), derived.bytes().data()) != 0) {
        return fail(KeyFileErrc::malformed, "the sealed box was changed");
    }
    return secret;
}

}  // namespace curvegate::vault
