#include "crypto/box.hpp"
#include "os/secret_pages.hpp"
#include "support/secrets.hpp"

#include <sodium.h>

#include <catch2/catch.hpp>

namespace curvegate::crypto {
namespace {

using test::Buffer;
using test::pattern;
using test::secret_number;

constexpr std::size_t kLargest = 65'503;

struct Pair {
    EphemeralSecret own = secret_number<EphemeralSecret>(1);
    EphemeralSecret other = secret_number<EphemeralSecret>(2);
    PublicKey other_public = *public_key_of(other);
    SharedKey key = *agree(own, other_public);
};

Nonce nonce_of(std::uint64_t number) {
    return Nonce::make(ShortPurpose::client_message, to_be(number));
}

std::vector<std::size_t> sizes() {
    std::vector<std::size_t> out = {1000, 4095, 4096, 4097, kLargest};
    for (std::size_t size = 0; size <= 130; ++size) out.push_back(size);
    return out;
}

TEST_CASE("a box is that of crypto_box_easy, at every size", "[crypto][box]") {
    const Pair pair;
    for (const std::size_t size : sizes()) {
        const auto plain = pattern(size);
        const auto nonce = nonce_of(size);
        Buffer box(size + kBoxOverhead);
        Buffer expected(size + crypto_box_MACBYTES);
        seal(pair.key, nonce, plain, box);
        REQUIRE(::crypto_box_easy(expected.data(), plain.data(), size, nonce.bytes().data(),
                                  pair.other_public.bytes().data(), SecretBytes::of(pair.own).data()) == 0);
        REQUIRE(test::same(box, expected));
        Buffer opened(size);
        REQUIRE(open(pair.key, nonce, box, opened).has_value());
        REQUIRE(test::same(opened, plain));
    }
}

TEST_CASE("sealing and opening in place gives the same bytes", "[crypto][box]") {
    const Pair pair;
    for (const std::size_t size : sizes()) {
        const auto plain = pattern(size);
        const auto nonce = nonce_of(size);
        Buffer box(size + kBoxOverhead);
        seal(pair.key, nonce, plain, box);
        Buffer in_place(kBoxOverhead);
        in_place.insert(in_place.end(), plain.begin(), plain.end());
        seal_in_place(pair.key, nonce, in_place);
        REQUIRE(test::same(in_place, box));
        REQUIRE(open_in_place(pair.key, nonce, in_place).has_value());
        REQUIRE(std::equal(plain.begin(), plain.end(), in_place.begin() + kBoxOverhead));
    }
}

TEST_CASE("a box with any bit changed does not open, and its text stays as it was", "[crypto][box]") {
    const Pair pair;
    Buffer box(kBoxOverhead + 20);
    seal(pair.key, nonce_of(1), pattern(20), box);
    test::each_bit_flip(box, [&](Buffer changed, std::size_t bit) {
        INFO("bit " << bit);
        const Buffer before = changed;
        Buffer plain(20);
        const auto out_of_place = open(pair.key, nonce_of(1), changed, plain);
        REQUIRE_FALSE(out_of_place.has_value());
        REQUIRE(out_of_place.error().is(Errc::box_does_not_open));
        REQUIRE_FALSE(open_in_place(pair.key, nonce_of(1), changed).has_value());
        REQUIRE(changed == before);
    });
}

TEST_CASE("a box cut short at any length does not open", "[crypto][box]") {
    const Pair pair;
    Buffer box(kBoxOverhead + 20);
    seal(pair.key, nonce_of(1), pattern(20), box);
    for (std::size_t size = 0; size < box.size(); ++size) {
        Buffer cut(box.begin(), box.begin() + static_cast<std::ptrdiff_t>(size));
        Buffer plain(20);
        REQUIRE_FALSE(open(pair.key, nonce_of(1), cut, plain).has_value());
        REQUIRE_FALSE(open_in_place(pair.key, nonce_of(1), cut).has_value());
    }
}

TEST_CASE("a box opens under its own key, number and purpose only", "[crypto][box]") {
    const Pair pair;
    Buffer box(kBoxOverhead + 20);
    seal(pair.key, nonce_of(1), pattern(20), box);
    Buffer plain(20);
    CHECK(open(pair.key, nonce_of(1), box, plain).has_value());
    CHECK_FALSE(open(pair.key, nonce_of(2), box, plain).has_value());
    CHECK_FALSE(
        open(pair.key, Nonce::make(ShortPurpose::server_message, to_be(std::uint64_t{1})), box, plain));
    CHECK_FALSE(open(secret_number<SharedKey>(9), nonce_of(1), box, plain).has_value());
}

// ---- cookies ----

const CookieKey& cookie_key() {
    static const auto key = secret_number<CookieKey>(3);
    return key;
}
Nonce cookie_nonce() {
    return Nonce::make(LongPurpose::minute_key, test::nonce_number(1));
}

TEST_CASE("a cookie's box is crypto_secretbox_easy of both short-term keys", "[crypto][box]") {
    const Pair pair;
    ByteArray<kCookieBoxSize> box{};
    seal_cookie(cookie_key(), cookie_nonce(), pair.other_public, pair.own, box);
    Buffer plain = test::copy_of(pair.other_public.bytes());
    plain.insert(plain.end(), SecretBytes::of(pair.own).begin(), SecretBytes::of(pair.own).end());
    ByteArray<kCookieBoxSize> expected{};
    ::crypto_secretbox_easy(expected.data(), plain.data(), plain.size(), cookie_nonce().bytes().data(),
                            SecretBytes::of(cookie_key()).data());
    CHECK(box == expected);

    const auto contents = open_cookie(cookie_key(), cookie_nonce(), box);
    REQUIRE(contents.has_value());
    CHECK(contents->client_short == pair.other_public);
    CHECK(std::ranges::equal(SecretBytes::of(contents->server_short), SecretBytes::of(pair.own)));
}

TEST_CASE("a cookie's box with any bit changed does not open", "[crypto][box]") {
    const Pair pair;
    ByteArray<kCookieBoxSize> box{};
    seal_cookie(cookie_key(), cookie_nonce(), pair.other_public, pair.own, box);
    const auto before = test::pool().in_use();
    test::each_bit_flip(box, [&](const Buffer& changed, std::size_t) {
        const auto contents = open_cookie(cookie_key(), cookie_nonce(),
                                          FixedBytes<kCookieBoxSize>(changed.data(), kCookieBoxSize));
        REQUIRE_FALSE(contents.has_value());
        REQUIRE(contents.error().is(Errc::box_does_not_open));
    });
    CHECK(test::pool().in_use() == before);
}

TEST_CASE("a cookie with a weak client key inside is refused", "[crypto][box]") {
    const ByteArray<64> plain{};  // the key of order 1 and a secret
    ByteArray<kCookieBoxSize> box{};
    ::crypto_secretbox_easy(box.data(), plain.data(), plain.size(), cookie_nonce().bytes().data(),
                            SecretBytes::of(cookie_key()).data());
    const auto contents = open_cookie(cookie_key(), cookie_nonce(), box);
    REQUIRE_FALSE(contents.has_value());
    CHECK(contents.error().is(Errc::weak_key));
}

TEST_CASE("a cookie key is BLAKE2b of its context under the minute key", "[crypto][box]") {
    // The value is Python's hashlib.blake2b(b"context", digest_size=32, key=bytes(range(32))).
    ByteArray<32> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<Byte>(i);
    const auto minute = test::secret_of<MinuteKey>(bytes);
    const auto key = derive_cookie_key(minute, as_bytes("context"));
    REQUIRE(key.has_value());
    CHECK(test::hex(SecretBytes::of(*key)) ==
          "08a51357aa084d5192f75893d4200d0bf9ff8d2b9b909e763d37ea7022336a75");
    const auto other = derive_cookie_key(minute, as_bytes("contexu"));
    CHECK_FALSE(std::ranges::equal(SecretBytes::of(*key), SecretBytes::of(*other)));
}

TEST_CASE("keys made from a secret live in its pool, and a full pool is told", "[crypto][box]") {
    const auto pool = std::move(*SecretPool::create(os::secret_pages(), Locking::attempt, 1));
    test::SeededRandom random(1);
    const auto first = MinuteKey::random(*pool, random);
    REQUIRE(first.has_value());
    std::vector<CookieKey> all;
    for (;;) {
        auto key = derive_cookie_key(*first, {});
        if (!key) {
            CHECK(key.error().is(Errc::secrets_full));
            break;
        }
        CHECK(&key->pool() == pool.get());
        all.push_back(std::move(*key));
        REQUIRE(all.size() < 100'000);
    }
    const auto secret = EphemeralSecret::random(*pool, random);
    REQUIRE_FALSE(secret.has_value());
    CHECK(secret.error().is(Errc::secrets_full));
}

}  // namespace
}  // namespace curvegate::crypto
