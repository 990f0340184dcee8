#include "crypto/key_shape.hpp"
#include "crypto/keys.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <ostream>
#include <unordered_set>

namespace curvegate::crypto {
namespace {

using test::hex;
using test::unhex_array;

static_assert(!std::is_default_constructible_v<PublicKey>);
static_assert(!std::is_constructible_v<PublicKey, ByteArray<32>>, "only parse() makes a key");

// RFC 7748, 6.1; the shared key is that of the NaCl documentation.
constexpr std::string_view kAliceSecret = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
constexpr std::string_view kAlice = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
constexpr std::string_view kBobSecret = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
constexpr std::string_view kBob = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
constexpr std::string_view kShared = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";

PublicKey alice() {
    return *PublicKey::parse(unhex_array<32>(kAlice));
}

bool is_weak(const ByteArray<32>& bytes) {
    const auto key = PublicKey::parse(bytes);
    return !key && key.error().is(Errc::weak_key);
}

ByteArray<32> with_high_bit(ByteArray<32> bytes) {
    bytes[31] |= 0x80;
    return bytes;
}

/// 2^255 - 19 + offset, for -19 <= offset <= 18
ByteArray<32> near_the_prime(int offset) {
    ByteArray<32> out;
    out.fill(0xff);
    out[31] = 0x7f;
    out[0] = static_cast<Byte>(0xed + offset);
    return out;
}

// The seven points that libsodium 1.0.18 refuses; each has a twin with the high bit set.
const std::vector<std::string> kLowOrder = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"};

TEST_CASE("all fourteen encodings of low order are refused", "[crypto][keys]") {
    for (const auto& text : kLowOrder) {
        INFO(text);
        CHECK(is_weak(unhex_array<32>(text)));
        CHECK(is_weak(with_high_bit(unhex_array<32>(text))));
    }
}

TEST_CASE("an encoding that is not canonical is refused", "[crypto][keys]") {
    for (int offset = 0; offset <= 18; ++offset) CHECK(is_weak(near_the_prime(offset)));
    CHECK(is_weak(near_the_prime(-1)));  // of order 2
    for (int offset = -19; offset <= -2; ++offset) CHECK_FALSE(is_weak(near_the_prime(offset)));
    // One byte below all ones: far under the prime.
    for (std::size_t i = 1; i < 31; ++i) {
        auto bytes = near_the_prime(5);
        bytes[i] = 0xfe;
        CHECK_FALSE(is_weak(bytes));
    }
}

TEST_CASE("a key with its high bit set is no second name of the same peer", "[crypto][keys]") {
    CHECK(is_weak(with_high_bit(to_array(alice().bytes()))));
}

TEST_CASE("a weak key is refused in every notation", "[crypto][keys]") {
    for (const auto& text : kLowOrder) {
        const auto bytes = unhex_array<32>(text);
        for (const auto format : {KeyFormat::base64, KeyFormat::hex, KeyFormat::z85}) {
            const auto text_of_it = encode_key(bytes, format);
            const auto key = PublicKey::from_text(text_of_it);
            REQUIRE_FALSE(key.has_value());
            // Forty zeros are Z85 of a key that nobody may have; they are taken for hex that was cut.
            CHECK(key.error().is(text_of_it == std::string(40, '0') ? Errc::bad_key_text : Errc::weak_key));
        }
    }
}

TEST_CASE("keys read and print as base64, hex and Z85", "[crypto][keys]") {
    CHECK(alice().text() == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    CHECK(encode_key(alice().bytes(), KeyFormat::hex) == kAlice);
    // The pair of keys in libzmq's documentation.
    const auto z85 = unhex_array<32>("bb88471d65e2659b30c55a5321cebb5aab2b70a398645c26dca2b2fcb43fc518");
    CHECK(encode_key(z85, KeyFormat::z85) == "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID");

    test::SeededRandom random(11);
    for (int i = 0; i < 200; ++i) {
        ByteArray<32> bytes{};
        random.fill(bytes);
        if (i < 2) bytes.fill(i == 0 ? 0x01 : 0xff);
        for (const auto format : {KeyFormat::base64, KeyFormat::hex, KeyFormat::z85}) {
            ByteArray<32> back{};
            REQUIRE(decode_key(encode_key(bytes, format), back).has_value());
            REQUIRE(back == bytes);
        }
        auto unpadded = encode_key(bytes, KeyFormat::base64);
        unpadded.pop_back();
        ByteArray<32> back{};
        REQUIRE(decode_key(unpadded, back).has_value());
        REQUIRE(back == bytes);
    }
    CHECK(PublicKey::from_text("8520F0098930A754748B7DDCB43EF75A0DBF3A0D26381AF4EBA4A98EAA9B4E6A").value() ==
          alice());
}

TEST_CASE("what is no key in any notation is refused and leaves nothing behind", "[crypto][keys]") {
    const std::string base64 = alice().text();
    const std::string hexed(kAlice);
    const std::string z85 = encode_key(alice().bytes(), KeyFormat::z85);
    std::vector<std::string> bad = {"",           "key",           base64 + "=", base64 + "\n", " " + base64,
                                    hexed + "00", hexed.substr(2), z85 + "0",    z85.substr(1)};
    const auto changed = [](std::string text, std::size_t at, char to) {
        text[at] = to;
        return text;
    };
    for (const char c : {'\0', ' ', '\n', '-', '_', '"'}) bad.push_back(changed(base64, 20, c));
    for (const char c : {'\0', ' ', 'g', ':', '/'}) bad.push_back(changed(hexed, 20, c));
    for (const char c : {'\0', ' ', '"', '~', ',', ';', '\\'}) bad.push_back(changed(z85, 20, c));
    bad.push_back(changed(base64, 43, 'A'));  // 33 bytes
    bad.push_back(changed(base64, 42, 'p'));  // bits after the last byte
    bad.push_back(changed(base64, 42, '='));  // 31 bytes
    bad.push_back(changed(base64, 42, 'p').substr(0, 43));
    bad.push_back("#####" + z85.substr(5));  // over 2^32
    for (const auto& text : bad) {
        INFO(text);
        ByteArray<32> out;
        out.fill(0x55);
        const auto decoded = decode_key(text, out);
        REQUIRE_FALSE(decoded.has_value());
        CHECK(decoded.error().is(Errc::bad_key_text));
        CHECK(out == ByteArray<32>{});
        CHECK_FALSE(PublicKey::from_text(text).has_value());
    }
}

TEST_CASE("hexadecimal digits that were cut read as no other key", "[crypto][keys]") {
    const std::string hexed = "8520F0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    for (std::size_t size = 1; size < hexed.size(); ++size) {
        CAPTURE(size);
        for (const auto& cut :
             {hexed.substr(0, size), hexed.substr(hexed.size() - size), std::string(size, '0')}) {
            ByteArray<32> out;
            out.fill(0x55);
            const auto decoded = decode_key(cut, out);
            REQUIRE_FALSE(decoded.has_value());
            CHECK(decoded.error().detail() == std::to_string(size) + " hexadecimal digits, cut short");
            CHECK(out == ByteArray<32>{});
        }
    }
    ByteArray<32> out{};
    CHECK(decode_key(hexed + "0", out).error().detail() == "65 hexadecimal digits");
}

TEST_CASE("what is wrong with a key's text is said, and nothing of it", "[crypto][keys]") {
    const std::string base64 = alice().text();
    ByteArray<32> out{};
    CHECK(decode_key("", out).error().detail() == "nothing");
    CHECK(decode_key(base64.substr(2), out).error().detail() == "42 characters");
    CHECK(decode_key("=" + base64.substr(1), out).error().detail() ==
          "44 characters, of which some do not belong into a key");
    CHECK(decode_key(fingerprint(alice()), out).error().detail() ==
          "a fingerprint, which stands for a key but does not hold it");
    for (std::size_t size = 0; size < base64.size(); ++size) {
        const auto decoded = decode_key(base64.substr(0, size), out);
        if (size > 3 && !decoded)
            CHECK(decoded.error().text().find(base64.substr(0, size)) == std::string::npos);
    }
}

TEST_CASE("a text that may be a key is known, cut or with more beside it", "[crypto][keys]") {
    const std::string base64 = alice().text();
    const std::string hexed(kAlice);
    for (const std::string& text : {base64, base64.substr(1), base64.substr(0, 42), base64 + "A", hexed,
                                    hexed.substr(0, 40), hexed.substr(20), hexed + "00"})
        CHECK(looks_like_key(text));
    for (const char* text : {"", "laptop", "0123456789abcdef0123456789abcdef", "server-1.example.com:4433",
                             "/var/lib/curvegate/keys/of-the-web-server.key"})
        CHECK_FALSE(looks_like_key(text));
}

TEST_CASE("a fingerprint is that of ssh", "[crypto][keys]") {
    CHECK(fingerprint(alice()) == "SHA256:MAyclgO5Kks57TlYv5JAEUgE20/TcwEsDKR0MtY0Ja4");
}

TEST_CASE("key agreement gives the published values, from both ends", "[crypto][keys]") {
    const auto a = test::secret_of<EphemeralSecret>(kAliceSecret);
    const auto b = test::secret_of<LongTermSecret>(kBobSecret);
    const auto bob = *public_key_of(b);
    CHECK(hex(public_key_of(a)->bytes()) == kAlice);
    CHECK(hex(bob.bytes()) == kBob);
    CHECK(hex(SecretBytes::of(*agree(a, bob))) == kShared);
    CHECK(hex(SecretBytes::of(*agree(b, alice()))) == kShared);
}

TEST_CASE("generated pairs fit together and differ", "[crypto][keys]") {
    test::SeededRandom random(3);
    std::unordered_set<PublicKey> seen;
    for (int i = 0; i < 50; ++i) {
        const auto keys = EphemeralKeyPair::generate(test::pool(), random);
        REQUIRE(keys.has_value());
        CHECK(*public_key_of(keys->secret) == keys->public_key);
        CHECK(seen.insert(keys->public_key).second);
    }
}

TEST_CASE("a comparison in constant time looks at every byte", "[crypto][keys]") {
    const auto bytes = to_array(alice().bytes());
    CHECK(equal_constant_time(bytes, bytes));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        auto other = bytes;
        other[i] = static_cast<Byte>(other[i] ^ 1);
        CHECK_FALSE(equal_constant_time(bytes, other));
    }
}

}  // namespace
}  // namespace curvegate::crypto
