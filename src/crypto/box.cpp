#include "crypto/box.hpp"

#include "crypto/secret_bytes.hpp"

#include <sodium.h>

namespace curvegate::crypto {
namespace {

constexpr std::size_t kCookiePlainSize = kCookieBoxSize - kBoxOverhead;

}  // namespace

// crypto_box_afternm is crypto_secretbox with the precomputed key: one set of calls serves both.

void seal(const SharedKey& key, const Nonce& nonce, Bytes plain, MutableBytes box) {
    ::crypto_secretbox_easy(box.data(), plain.data(), plain.size(), nonce.bytes().data(),
                            SecretBytes::of(key).data());
}

Result<> open(const SharedKey& key, const Nonce& nonce, Bytes box, MutableBytes plain) {
    if (box.size() < kBoxOverhead ||
        ::crypto_secretbox_open_easy(plain.data(), box.data(), box.size(), nonce.bytes().data(),
                                     SecretBytes::of(key).data()) != 0) {
        return fail(Errc::box_does_not_open);
    }
    return {};
}

void seal_in_place(const SharedKey& key, const Nonce& nonce, MutableBytes box) {
    const auto text = box.subspan(kBoxOverhead);
    ::crypto_secretbox_detached(text.data(), box.data(), text.data(), text.size(), nonce.bytes().data(),
                                SecretBytes::of(key).data());
}

Result<> open_in_place(const SharedKey& key, const Nonce& nonce, MutableBytes box) {
    if (box.size() < kBoxOverhead) return fail(Errc::box_does_not_open);
    const auto text = box.subspan(kBoxOverhead);
    if (::crypto_secretbox_open_detached(text.data(), text.data(), box.data(), text.size(),
                                         nonce.bytes().data(), SecretBytes::of(key).data()) != 0) {
        return fail(Errc::box_does_not_open);
    }
    return {};
}

void seal_cookie(const CookieKey& key, const Nonce& nonce, const PublicKey& client_short,
                 const EphemeralSecret& server_short, MutableFixedBytes<kCookieBoxSize> box) {
    // The secret is written where its ciphertext will stand, never to memory of another kind.
    Writer(box.subspan<kBoxOverhead>()).put(client_short.bytes()).put(SecretBytes::of(server_short));
    const auto text = box.subspan<kBoxOverhead>();
    ::crypto_secretbox_detached(text.data(), box.data(), text.data(), text.size(), nonce.bytes().data(),
                                SecretBytes::of(key).data());
}

Result<CookieContents> open_cookie(const CookieKey& key, const Nonce& nonce, FixedBytes<kCookieBoxSize> box) {
    ByteArray<kCookiePlainSize> plain{};
    if (::crypto_secretbox_open_easy(plain.data(), box.data(), box.size(), nonce.bytes().data(),
                                     SecretBytes::of(key).data()) != 0) {
        return fail(Errc::box_does_not_open);
    }
    auto secret = EphemeralSecret::adopt(key.pool(), MutableBytes(plain).last<32>());
    if (!secret) return fail(std::move(secret));
    auto client_short = PublicKey::parse(FixedBytes<kCookiePlainSize>(plain).first<32>());
    if (!client_short) return fail(std::move(client_short));
    return CookieContents{*client_short, std::move(*secret)};
}

Result<CookieKey> derive_cookie_key(const MinuteKey& key, Bytes context) {
    auto out = SecretBytes::blank<CookieTag>(key.pool());
    if (!out) return out;
    const auto secret = SecretBytes::of(key);
    ::crypto_generichash(SecretBytes::of(*out).data(), 32, context.data(), context.size(), secret.data(),
                         secret.size());
    return out;
}

}  // namespace curvegate::crypto
