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

    Head(const MessageKey& key, FixedBytes<8> number, std::size_t text)
        : covered_(std::min(text, kCovered)), made_((32 + covered_ + kGroup - 1) / kGroup * kGroup) {
        ::crypto_stream_salsa20(stream_.data(), made_, number.data(), SecretBytes::of(key).data());
    }
    Head(const Head&) = delete;
    Head& operator=(const Head&) = delete;
    ~Head() { wipe(MutableBytes(stream_).first(made_)); }

    [[nodiscard]] FixedBytes<32> authenticator_key() const noexcept {
        return FixedBytes<kSize>(stream_).first<32>();
    }
    /// Encrypts, or decrypts, what it covers of `text`; gives that part.
    MutableBytes apply(MutableBytes text) const noexcept {
        const Byte* stream = stream_.data() + 32;
        for (std::size_t i = 0; i < covered_; ++i) text[i] ^= stream[i];
        return text.first(covered_);
    }

  private:
    std::size_t covered_;
    std::size_t made_;
    alignas(kBlock) ByteArray<kSize> stream_;
};

/// The same for a piece behind the head, which begins `offset` bytes into the text.
void apply_from(const MessageKey& key, FixedBytes<8> number, std::size_t offset, MutableBytes piece) {
    ::crypto_stream_salsa20_xor_ic(piece.data(), piece.data(), piece.size(), number.data(),
                                   (32 + offset) / kBlock, SecretBytes::of(key).data());
}

}  // namespace

Result<MessageKey> derive_message_key(const SharedKey& key, ShortPurpose purpose) {
    auto out = SecretBytes::blank<MessageTag>(key.pool());
    if (!out) return out;
    const auto nonce = Nonce::make(purpose, ByteArray<8>{});
    ::crypto_core_hsalsa20(SecretBytes::of(*out).data(), nonce.bytes().data(), SecretBytes::of(key).data(),
                           nullptr);
    return out;
}

void seal_in_place(const MessageKey& key, FixedBytes<8> number, MutableBytes box) {
    const auto text = box.subspan(kBoxOverhead);
    const Head head(key, number, text.size());
    Poly1305 authenticator(head.authenticator_key());
    authenticator.update(head.apply(text));
    for (std::size_t at = Head::kCovered; at < text.size(); at += kPiece) {
        const auto piece = text.subspan(at, std::min(kPiece, text.size() - at));
        apply_from(key, number, at, piece);
        authenticator.update(piece);
    }
    authenticator.finish(box.first<kBoxOverhead>());
}

Result<> open_in_place(const MessageKey& key, FixedBytes<8> number, MutableBytes box) {
    if (box.size() < kBoxOverhead) return fail(Errc::box_does_not_open);
    const auto text = box.subspan(kBoxOverhead);
    const Head head(key, number, text.size());
    Poly1305 authenticator(head.authenticator_key());
    authenticator.update(text);
    ByteArray<kBoxOverhead> tag{};
    authenticator.finish(tag);
    if (::crypto_verify_16(tag.data(), box.data()) != 0) return fail(Errc::box_does_not_open);
    head.apply(text);
    if (text.size() > Head::kCovered) apply_from(key, number, Head::kCovered, text.subspan(Head::kCovered));
    return {};
}

}  // namespace curvegate::crypto
