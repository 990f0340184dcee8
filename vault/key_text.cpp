#include "vault/key_text.hpp"

#include "crypto/secret_bytes.hpp"
#include "vault/locked_buffer.hpp"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace curvegate::vault {
namespace {

constexpr std::string_view kFirstLine = "curvegate-secret-key 1";
constexpr std::string_view kRole = "role: ";
constexpr std::string_view kPublic = "public: ";
constexpr std::string_view kSecret = "secret: ";
constexpr std::string_view kSealed = "sealed: argon2id ";

template <std::size_t N>
constexpr std::size_t kBase64Size = (N + 2) / 3 * 4;

/// The four lines of a key file, the last one still as text.
struct KeyText {
    KeyFileHeader header;
    std::string_view content;  ///< what follows `secret: ` or `sealed: argon2id `
};

std::unexpected<Error> malformed(std::string detail) {
    return fail(KeyFileErrc::malformed, std::move(detail));
}

/// Takes the text up to `end` off `rest`; nothing if `end` does not come.
std::optional<std::string_view> take_until(std::string_view& rest, char end) {
    const auto at = rest.find(end);
    if (at == std::string_view::npos) return std::nullopt;
    const auto piece = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    return piece;
}

bool strip(std::string_view& line, std::string_view prefix) {
    if (!line.starts_with(prefix)) return false;
    line.remove_prefix(prefix.size());
    return true;
}

/// Exactly N bytes as padded base64, in time that does not depend on the digits.
template <std::size_t N>
bool decode(std::string_view text, MutableFixedBytes<N> out) {
    if (text.size() != kBase64Size<N>) return false;
    std::size_t length = 0;
    const char* end = nullptr;
    return ::sodium_base642bin(out.data(), N, text.data(), text.size(), nullptr, &length, &end,
                               sodium_base64_VARIANT_ORIGINAL) == 0 &&
           length == N && end == text.data() + text.size();
}

/// A decimal number as we write it: no sign, no leading zero.
std::optional<std::uint32_t> number(std::string_view text) {
    std::uint32_t value = 0;
    const auto* end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || stopped != end || text.starts_with('0')) return std::nullopt;
    return value;
}

std::optional<KeyRole> role_of(std::string_view text) {
    for (const auto role : {KeyRole::server, KeyRole::client}) {
        if (text == name_of(role)) return role;
    }
    return std::nullopt;
}

Result<crypto::PublicKey> public_key(std::string_view text) {
    ByteArray<crypto::PublicKey::kSize> bytes{};
    if (!decode<32>(text, bytes)) return malformed("line 3: want `public: ` and 44 characters of base64");
    auto key = crypto::PublicKey::parse(bytes);
    if (!key) return malformed("line 3: the public key is not canonical or of low order");
    return key;
}

Result<KeyText> split(std::string_view text) {
    std::array<std::string_view, 4> lines;
    for (auto& line : lines) {
        const auto piece = take_until(text, '\n');
        if (!piece) return malformed("want four lines, each with its end");
        line = *piece;
    }
    if (!text.empty()) return malformed("there is something after the fourth line");
    if (lines[0] != kFirstLine) return malformed("line 1: want `" + std::string(kFirstLine) + "`");
    if (!strip(lines[1], kRole)) return malformed("line 2: want `role: server` or `role: client`");
    const auto role = role_of(lines[1]);
    if (!role) return malformed("line 2: want `role: server` or `role: client`");
    if (!strip(lines[2], kPublic)) return malformed("line 3: want `public: ` and 44 characters of base64");
    auto key = public_key(lines[2]);
    if (!key) return fail(std::move(key));
    const bool sealed = strip(lines[3], kSealed);
    if (!sealed && !strip(lines[3], kSecret))
        return malformed("line 4: want `secret: ` or `sealed: argon2id `");
    return KeyText{{*role, *key, sealed}, lines[3]};
}

/// `<ops> <KiB> <salt> <commitment> <nonce> <box>`
std::optional<SealedSecret> sealed_secret(std::string_view text) {
    std::array<std::string_view, 6> fields;
    for (std::size_t i = 0; i + 1 < fields.size(); ++i) {
        const auto piece = take_until(text, ' ');
        if (!piece) return std::nullopt;
        fields[i] = *piece;
    }
    fields[5] = text;
    const auto ops = number(fields[0]);
    const auto kib = number(fields[1]);
    SealedSecret sealed;
    if (!ops || !kib) return std::nullopt;
    sealed.cost = {*ops, *kib};
    if (!sealed.cost.in_bounds() || !decode<16>(fields[2], sealed.salt) ||
        !decode<32>(fields[3], sealed.commitment) || !decode<24>(fields[4], sealed.nonce) ||
        !decode<48>(fields[5], sealed.box)) {
        return std::nullopt;
    }
    return sealed;
}

Result<crypto::LongTermSecret> open_sealed(std::string_view text, crypto::SecretPool& pool,
                                           const AskPassphrase& ask) {
    const auto sealed = sealed_secret(text);
    if (!sealed) {
        return malformed(
            "line 4: want ops (1-16), KiB (8192-1048576), salt, commitment, nonce and box in base64");
    }
    const LockedBuffer passphrase(kLongestPassphrase);
    const auto length = ask ? ask(passphrase.bytes()) : std::nullopt;
    if (!length) return fail(KeyFileErrc::passphrase_needed);
    return unseal_secret(*sealed, passphrase.bytes().first(std::min(*length, kLongestPassphrase)), pool);
}

Result<crypto::LongTermSecret> open_plain(std::string_view text, crypto::SecretPool& pool) {
    auto secret = crypto::SecretBytes::blank<crypto::LongTermTag>(pool);
    if (!secret) return secret;
    if (!decode<32>(text, crypto::SecretBytes::of(*secret))) {
        return malformed("line 4: want `secret: ` and 44 characters of base64");
    }
    return secret;
}

Result<LongTermKey> parse_text(std::string_view text, crypto::SecretPool& pool, const AskPassphrase& ask) {
    const auto key = split(text);
    if (!key) return std::unexpected(key.error());
    auto secret = key->header.sealed ? open_sealed(key->content, pool, ask) : open_plain(key->content, pool);
    if (!secret) return fail(std::move(secret));
    const auto derived = crypto::public_key_of(*secret);
    if (!derived || *derived != key->header.public_key) return fail(KeyFileErrc::public_mismatch);
    return LongTermKey{key->header.role, key->header.public_key, std::move(*secret)};
}

/// Appends text and base64 to a locked buffer, so that no std::string ever holds a secret.
class TextWriter {
  public:
    explicit TextWriter(MutableBytes out) noexcept : writer_(out), size_(out.size()) {}
    TextWriter& text(std::string_view text) {
        writer_.put(as_bytes(text));
        return *this;
    }
    template <std::size_t N>
    TextWriter& base64(FixedBytes<N> bytes) {
        const LockedBuffer digits(kBase64Size<N> + 1);
        ::sodium_bin2base64(reinterpret_cast<char*>(digits.bytes().data()), digits.bytes().size(),
                            bytes.data(), N, sodium_base64_VARIANT_ORIGINAL);
        writer_.put(digits.bytes().template first<kBase64Size<N>>());
        return *this;
    }
    [[nodiscard]] std::size_t length() const noexcept { return size_ - writer_.left(); }

  private:
    Writer writer_;
    std::size_t size_;
};

}  // namespace

std::string_view name_of(KeyRole role) {
    return role == KeyRole::server ? "server" : "client";
}

std::string_view describe(KeyFileErrc code) {
    switch (code) {
        case KeyFileErrc::missing: return "there is no such file; make the key with `curvegate keygen`";
        case KeyFileErrc::denied:
            return "the key file is another user's; it must belong to the user that the vault runs as";
        case KeyFileErrc::unreadable: return "the key file cannot be read";
        case KeyFileErrc::wrong_owner:
            return "the key file belongs to somebody else; it must belong to the user that the vault runs "
                   "as, "
                   "or to root";
        case KeyFileErrc::wrong_mode: return "the key file is open to others; run chmod 600 on it";
        case KeyFileErrc::not_regular:
            return "the key file is not a regular file; name the file itself, not a symlink";
        case KeyFileErrc::malformed: return "not a key file as `curvegate keygen` writes them";
        case KeyFileErrc::public_mismatch: return "the public key in the key file is not the secret's";
        case KeyFileErrc::wrong_passphrase: return "wrong passphrase";
        case KeyFileErrc::passphrase_needed:
            return "the key file is sealed and there is no passphrase (set passphrase-file, or start from a "
                   "terminal)";
        case KeyFileErrc::exists:
            return "the file exists already and is never overwritten; choose another name";
        case KeyFileErrc::cannot_write: return "the key file cannot be written";
    }
    return "unknown";
}

Result<LongTermKey> parse_key(MutableBytes text, crypto::SecretPool& pool, const AskPassphrase& ask) {
    auto key = parse_text(as_text(text), pool, ask);
    crypto::wipe(text);
    return key;
}

Result<KeyFileHeader> parse_key_header(std::string_view text) {
    auto key = split(text);
    if (!key) return fail(std::move(key));
    return key->header;
}

std::size_t format_key(const LongTermKey& key, const std::optional<SealedSecret>& sealed, MutableBytes out) {
    TextWriter writer(out);
    writer.text(kFirstLine).text("\n").text(kRole).text(name_of(key.role)).text("\n");
    writer.text(kPublic).base64(key.public_key.bytes()).text("\n");
    if (sealed) {
        writer.text(kSealed).text(std::to_string(sealed->cost.ops)).text(" ");
        writer.text(std::to_string(sealed->cost.kib)).text(" ");
        writer.base64(FixedBytes<16>(sealed->salt))
            .text(" ")
            .base64(FixedBytes<32>(sealed->commitment))
            .text(" ");
        writer.base64(FixedBytes<24>(sealed->nonce)).text(" ").base64(FixedBytes<48>(sealed->box)).text("\n");
    } else {
        writer.text(kSecret).base64(crypto::SecretBytes::of(key.secret)).text("\n");
    }
    return writer.length();
}

}  // namespace curvegate::vault
