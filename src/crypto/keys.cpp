#include "crypto/keys.hpp"

#include "crypto/key_shape.hpp"
#include "crypto/secret_bytes.hpp"

#include <sodium.h>

#include <array>

namespace curvegate::crypto {
namespace {

constexpr std::string_view kZ85Digits =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
constexpr std::size_t kBase64Length = 44;
constexpr std::size_t kHexLength = 64;
constexpr std::size_t kZ85Length = 40;
constexpr std::string_view kFingerprintStart = "SHA256:";

// The canonical encodings of the points of order 1, 2, 4 and 8; all others of their kind are not canonical.
constexpr std::array<ByteArray<32>, 5> kLowOrder = {{
    {0},
    {1},
    {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
     0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
    {0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
     0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
}};

bool is_canonical(FixedBytes<32> key) noexcept {
    if ((key[31] & 0x80) != 0) return false;
    // 2^255-19 and above: ff..ff with the last byte 7f and the first ed or more.
    if (key[31] != 0x7f || key[0] < 0xed) return true;
    return std::any_of(key.begin() + 1, key.end() - 1, [](Byte byte) { return byte != 0xff; });
}

/// Says whether all characters are hexadecimal digits. The text may be a secret: the time depends on its
/// length alone.
bool is_hex_only(std::string_view text) noexcept {
    unsigned others = text.empty() ? 1U : 0U;
    for (const char c : text) {
        const unsigned byte = static_cast<unsigned char>(c);
        const auto digit = static_cast<unsigned>(byte - 0x30U < 10U);            // below '0' it wraps
        const auto letter = static_cast<unsigned>((byte | 0x20U) - 0x61U < 6U);  // a to f
        others |= 1U ^ (digit | letter);
    }
    return others == 0;
}

/// Why a text is no key, without a word of it: it may be a secret.
std::string why_not_key(std::string_view text) {
    const std::string count = std::to_string(text.size());
    if (text.empty()) return "nothing";
    if (text.starts_with(kFingerprintStart))
        return "a fingerprint, which stands for a key but does not hold it";
    if (is_hex_only(text))
        return count + " hexadecimal digits" + (text.size() < kHexLength ? ", cut short" : "");
    const bool right = text.size() == kHexLength || text.size() == kBase64Length ||
                       text.size() == kBase64Length - 1 || text.size() == kZ85Length;
    return count + " characters" + (right ? ", of which some do not belong into a key" : "");
}

bool decode_z85(std::string_view text, MutableFixedBytes<32> out) {
    for (std::size_t group = 0; group < kZ85Length / 5; ++group) {
        std::uint64_t value = 0;
        for (const char c : text.substr(group * 5, 5)) {
            const auto digit = kZ85Digits.find(c);
            if (digit == std::string_view::npos) return false;
            value = value * 85 + digit;
        }
        if (value > 0xffffffffU) return false;
        store_be<std::uint32_t>(out.subspan(group * 4).first<4>(), static_cast<std::uint32_t>(value));
    }
    return true;
}

template <class Tag>
Result<PublicKey> base_multiply(const Secret<Tag>& secret) {
    ByteArray<32> out{};
    ::crypto_scalarmult_base(out.data(), SecretBytes::of(secret).data());
    return PublicKey::parse(out);
}

template <class Tag>
Result<SharedKey> beforenm(const Secret<Tag>& own, const PublicKey& peer) {
    auto shared = SecretBytes::blank<SharedTag>(own.pool());
    if (!shared) return shared;
    if (::crypto_box_beforenm(SecretBytes::of(*shared).data(), peer.bytes().data(),
                              SecretBytes::of(own).data()) != 0) {
        return fail(Errc::weak_key);
    }
    return shared;
}

}  // namespace

Result<PublicKey> PublicKey::parse(FixedBytes<kSize> bytes) {
    const auto key = to_array(bytes);
    if (!is_canonical(key) || std::ranges::find(kLowOrder, key) != kLowOrder.end())
        return fail(Errc::weak_key);
    return PublicKey(key);
}

Result<PublicKey> PublicKey::from_text(std::string_view text) {
    ByteArray<kSize> bytes{};
    if (auto decoded = decode_key(text, bytes); !decoded) return fail(std::move(decoded));
    return parse(bytes);
}

std::string PublicKey::text() const {
    return encode_key(bytes_, KeyFormat::base64);
}

Result<> decode_key(std::string_view text, MutableFixedBytes<32> out) {
    std::size_t length = 0;
    const char* end = nullptr;
    bool decoded = false;
    if (text.size() == kHexLength) {
        decoded =
            ::sodium_hex2bin(out.data(), out.size(), text.data(), text.size(), nullptr, &length, &end) == 0 &&
            length == out.size() && end == text.data() + text.size();
    } else if (is_hex_only(text)) {
        // Forty of the digits would read as Z85 and forty-three as base64: as another key than was meant.
    } else if (text.size() == kBase64Length || text.size() == kBase64Length - 1) {
        const int variant = text.size() == kBase64Length ? sodium_base64_VARIANT_ORIGINAL
                                                         : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
        decoded = ::sodium_base642bin(out.data(), out.size(), text.data(), text.size(), nullptr, &length,
                                      &end, variant) == 0 &&
                  length == out.size() && end == text.data() + text.size();
    } else if (text.size() == kZ85Length) {
        decoded = decode_z85(text, out);
    }
    if (!decoded) {
        wipe(out);
        return fail(Errc::bad_key_text, why_not_key(text));
    }
    return {};
}

bool looks_like_key(std::string_view text) {
    constexpr std::size_t kFewHexDigits = 40;
    constexpr std::size_t kManyHexDigits = 72;
    constexpr std::size_t kFewBase64Digits = kBase64Length - 3;
    ByteArray<32> bytes{};
    const bool whole = decode_key(text, bytes).has_value();
    wipe(bytes);
    if (whole) return true;
    if (is_hex_only(text)) return text.size() >= kFewHexDigits && text.size() <= kManyHexDigits;
    constexpr std::string_view kBase64Digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    return text.size() >= kFewBase64Digits && text.size() <= kBase64Length + 2 &&
           text.find_first_not_of(kBase64Digits) == std::string_view::npos;
}

std::string encode_key(FixedBytes<32> bytes, KeyFormat format) {
    switch (format) {
        case KeyFormat::hex: {
            std::string out(kHexLength + 1, '\0');
            ::sodium_bin2hex(out.data(), out.size(), bytes.data(), bytes.size());
            out.resize(kHexLength);
            return out;
        }
        case KeyFormat::z85: {
            std::string out;
            for (std::size_t group = 0; group < bytes.size(); group += 4) {
                auto value = load_be<std::uint32_t>(bytes.subspan(group).first<4>());
                std::array<char, 5> digits{};
                for (std::size_t i = digits.size(); i-- > 0; value /= 85) digits[i] = kZ85Digits[value % 85];
                out.append(digits.data(), digits.size());
            }
            return out;
        }
        case KeyFormat::base64: break;
    }
    std::string out(kBase64Length + 1, '\0');
    ::sodium_bin2base64(out.data(), out.size(), bytes.data(), bytes.size(), sodium_base64_VARIANT_ORIGINAL);
    out.resize(kBase64Length);
    return out;
}

std::string fingerprint(const PublicKey& key) {
    ByteArray<crypto_hash_sha256_BYTES> digest{};
    ::crypto_hash_sha256(digest.data(), key.bytes().data(), key.bytes().size());
    std::string text = encode_key(digest, KeyFormat::base64);
    text.pop_back();  // the padding
    return std::string(kFingerprintStart) + text;
}

Result<EphemeralKeyPair> EphemeralKeyPair::generate(SecretPool& pool, RandomSource& random) {
    auto secret = EphemeralSecret::random(pool, random);
    if (!secret) return fail(std::move(secret));
    auto public_key = public_key_of(*secret);
    if (!public_key) return fail(std::move(public_key));
    return EphemeralKeyPair{*public_key, std::move(*secret)};
}

Result<PublicKey> public_key_of(const EphemeralSecret& secret) {
    return base_multiply(secret);
}
Result<PublicKey> public_key_of(const LongTermSecret& secret) {
    return base_multiply(secret);
}
Result<SharedKey> agree(const EphemeralSecret& own, const PublicKey& peer) {
    return beforenm(own, peer);
}
Result<SharedKey> agree(const LongTermSecret& own, const PublicKey& peer) {
    return beforenm(own, peer);
}

bool equal_constant_time(FixedBytes<32> a, const ByteArray<32>& b) noexcept {
    return ::sodium_memcmp(a.data(), b.data(), b.size()) == 0;
}

}  // namespace curvegate::crypto
