#include "crypto/message_box.hpp"

#include "crypto/poly1305.hpp"
#include "crypto/secret_bytes.hpp"

#include <sodium.h>

namespace curvegate::crypto {
namespace {

static_assert(kBoxOverhead == Poly1305::kTagSize);

constexpr std::size_t kBlock = 64;  // of Salsa20
// libsodium makes four blocks at once, or eight, much faster than what is left over one by one.
constexpr std::size_t kGroup = 4 * kBlock;
// A longer text is encrypted by pieces that stay in the first cache until they are authenticated.
constexpr std::size_t kPiece = std::size_t{16} << 10;

/// The beginning of a message's keystream: the 32 bytes that key Poly1305, then what covers the text, or its
/// first kCovered bytes.
class Head {
  public:
    static constexpr std::size_t kSize = 8 * kGroup;
    static constexpr std::size_t kCovered = kSize - 32;

    template <class Key>
    Head(const Key& key, FixedBytes<8> number, std::size_t text)
        : covered_(std::min(text, kCovered)), made_((32 + covered_ + kGroup - 1) / kGroup * kGroup) {
        ::crypto_stream_salsa20(stream_.data(), made_, number.data(), SecretBytes::of(key).data());
    }
    Head(const Head&) = delete;
    Head& operator=(const Head&) = delete;
    ~Head() { wipe(MutableBytes(stream_).first(made_)); }

    [[nodiscard]] FixedBytes<32> authenticator_key() const noexcept {
        return FixedBytes<kSize>(stream_).first<32>();
    }
    /// What it covers of `text`.
    [[nodiscard]] Bytes covered(Bytes text) const noexcept { return text.first(covered_); }
    /// Encrypts, or decrypts, that part.
    void apply(MutableBytes text) const noexcept {
        const Byte* stream = stream_.data() + 32;
        for (std::size_t i = 0; i < covered_; ++i) text[i] ^= stream[i];
    }

  private:
    std::size_t covered_;
    std::size_t made_;
    alignas(kBlock) ByteArray<kSize> stream_;
};

/// What lies behind the head, by pieces; each is shown before and after it is encrypted, or decrypted.
template <class Key, class Before, class After>
void apply_behind(const Key& key, FixedBytes<8> number, MutableBytes text, Before before, After after) {
    for (std::size_t at = Head::kCovered; at < text.size(); at += kPiece) {
        const auto piece = text.subspan(at, std::min(kPiece, text.size() - at));
        before(piece);
        ::crypto_stream_salsa20_xor_ic(piece.data(), piece.data(), piece.size(), number.data(),
                                       (32 + at) / kBlock, SecretBytes::of(key).data());
        after(piece);
    }
}
constexpr auto kNothing = [](Bytes) {};

template <class Tag>
Result<Secret<Tag>> derive(const SharedKey& key, ShortPurpose purpose) {
    auto out = SecretBytes::blank<Tag>(key.pool());
    if (!out) return out;
    const auto nonce = Nonce::make(purpose, ByteArray<8>{});
    ::crypto_core_hsalsa20(SecretBytes::of(*out).data(), nonce.bytes().data(), SecretBytes::of(key).data(),
                           nullptr);
    return out;
}

}  // namespace

Result<SealKey> derive_seal_key(const SharedKey& key, ShortPurpose ours) {
    return derive<SealTag>(key, ours);
}

Result<OpenKey> derive_open_key(const SharedKey& key, ShortPurpose peers) {
    return derive<OpenTag>(key, peers);
}

void seal_in_place(const SealKey& key, FreshNumber number, NumberForm form, MutableBytes box) {
    const auto text = box.subspan(kBoxOverhead);
    const auto wire_number = form(number.number());
    const Head head(key, wire_number, text.size());
    Poly1305 authenticator(head.authenticator_key());
    const auto authenticate = [&](Bytes piece) { authenticator.update(piece); };
    head.apply(text);
    authenticate(head.covered(text));
    apply_behind(key, wire_number, text, kNothing, authenticate);
    authenticator.finish(box.first<kBoxOverhead>());
}

// Each piece is decrypted while it is in the cache for its authentication. Nobody sees the text before all
// of it has been authenticated: what does not open is encrypted again.
Result<> open_in_place(const OpenKey& key, FixedBytes<8> number, MutableBytes box) {
    if (box.size() < kBoxOverhead) return fail(Errc::box_does_not_open);
    const auto text = box.subspan(kBoxOverhead);
    const Head head(key, number, text.size());
    Poly1305 authenticator(head.authenticator_key());
    const auto authenticate = [&](Bytes piece) { authenticator.update(piece); };
    authenticate(head.covered(text));
    apply_behind(key, number, text, authenticate, kNothing);
    ByteArray<kBoxOverhead> tag{};
    authenticator.finish(tag);
    if (::crypto_verify_16(tag.data(), box.data()) != 0) {
        apply_behind(key, number, text, kNothing, kNothing);
        return fail(Errc::box_does_not_open);
    }
    head.apply(text);
    return {};
}

}  // namespace curvegate::crypto
