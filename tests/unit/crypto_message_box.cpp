#include "crypto/message_box.hpp"
#include "crypto/poly1305.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <random>

namespace curvegate::crypto {
namespace {

using test::Buffer;
using test::pattern;
using test::secret_number;

constexpr std::size_t kLargest = 65'503;

const SharedKey& shared() {
    static const auto key = secret_number<SharedKey>(7);
    return key;
}
SealKey seal_key(ShortPurpose purpose = ShortPurpose::client_message) {
    return *derive_seal_key(shared(), purpose);
}
OpenKey open_key(ShortPurpose purpose = ShortPurpose::client_message) {
    return *derive_open_key(shared(), purpose);
}
ByteArray<8> big_endian(PacketNumber number) noexcept {
    return to_be(number.value);
}
void seal(const SealKey& key, std::uint64_t number, MutableBytes box) {
    seal_in_place(key, *SendCounter({number}).next(), big_endian, box);
}

template <class Key>
concept Opens =
    requires(const Key& key, ByteArray<8> number, MutableBytes box) { open_in_place(key, number, box); };
template <class Key>
concept Seals = requires(const Key& key, FreshNumber number, MutableBytes box) {
    seal_in_place(key, std::move(number), big_endian, box);
};
static_assert(Seals<SealKey> && !Opens<SealKey>);
static_assert(Opens<OpenKey> && !Seals<OpenKey>);

Buffer with_room(Bytes text) {
    Buffer box(kBoxOverhead);
    box.insert(box.end(), text.begin(), text.end());
    return box;
}

Buffer sealed(std::uint64_t number, Bytes text, ShortPurpose purpose = ShortPurpose::client_message) {
    auto box = with_room(text);
    seal(seal_key(purpose), number, box);
    return box;
}

/// By crypto_box, from the shared key and the whole nonce.
Buffer expected(std::uint64_t number, Bytes text, ShortPurpose purpose = ShortPurpose::client_message) {
    Buffer box(kBoxOverhead + text.size());
    REQUIRE(::crypto_box_easy_afternm(box.data(), text.data(), text.size(),
                                      Nonce::make(purpose, to_be(number)).bytes().data(),
                                      SecretBytes::of(shared()).data()) == 0);
    return box;
}

void check_size(std::size_t size) {
    INFO(size << " bytes");
    const auto text = pattern(size);
    for (const auto purpose : {ShortPurpose::client_message, ShortPurpose::server_message}) {
        auto box = sealed(size, text, purpose);
        REQUIRE(test::same(box, expected(size, text, purpose)));
        REQUIRE(open_in_place(open_key(purpose), to_be(std::uint64_t{size}), box).has_value());
        REQUIRE(std::equal(text.begin(), text.end(), box.begin() + kBoxOverhead));
    }
}

TEST_CASE("a message's box is that of crypto_box, at every size to 4 KiB", "[crypto][message_box]") {
    for (std::size_t size = 0; size <= 4'200; ++size) check_size(size);
}

TEST_CASE("a message's box is that of crypto_box where its pieces meet", "[crypto][message_box]") {
    constexpr std::size_t kHead = 2'048 - 32;
    for (std::size_t pieces = 1; pieces <= 3; ++pieces) {
        const std::size_t seam = kHead + pieces * 16'384;
        for (const std::size_t size : {seam - 64, seam - 1, seam, seam + 1, seam + 63, seam + 64, seam + 65})
            check_size(size);
    }
    check_size(kLargest);
    std::mt19937 random(1);
    std::uniform_int_distribution<std::size_t> any(0, kLargest);
    for (int i = 0; i < 200; ++i) check_size(any(random));
}

TEST_CASE("boxes lie anywhere in memory", "[crypto][message_box]") {
    for (std::size_t offset = 0; offset < 64; ++offset) {
        for (const std::size_t size : {1UL, 1'088UL, 5'000UL}) {
            Buffer memory(offset);
            const auto box = with_room(pattern(size));
            memory.insert(memory.end(), box.begin(), box.end());
            seal(seal_key(), 3, MutableBytes(memory).subspan(offset));
            REQUIRE(test::same(Bytes(memory).subspan(offset), expected(3, pattern(size))));
        }
    }
}

TEST_CASE("a message's box with any bit changed does not open and stays as it was", "[crypto][message_box]") {
    for (const std::size_t size : {20UL, 2'100UL}) {
        const auto good = sealed(1, pattern(size));
        const auto key = open_key();
        const std::size_t step = size < 100 ? 1 : 61;
        for (std::size_t bit = 0; bit < good.size() * 8; bit += step) {
            INFO("bit " << bit);
            auto changed = good;
            changed[bit / 8] ^= static_cast<Byte>(1U << (bit % 8));
            const auto before = changed;
            const auto opened = open_in_place(key, to_be(std::uint64_t{1}), changed);
            REQUIRE_FALSE(opened.has_value());
            REQUIRE(opened.error().is(Errc::box_does_not_open));
            REQUIRE(changed == before);
        }
    }
}

TEST_CASE("a message's box cut short does not open", "[crypto][message_box]") {
    const auto good = sealed(1, pattern(40));
    for (std::size_t size = 0; size < good.size(); ++size) {
        Buffer cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
        REQUIRE_FALSE(open_in_place(open_key(), to_be(std::uint64_t{1}), cut));
    }
}

TEST_CASE("a message's box opens under its own number and direction only", "[crypto][message_box]") {
    const auto good = sealed(1, pattern(20));
    const auto opens = [&](ShortPurpose purpose, std::uint64_t number) {
        auto box = good;
        return open_in_place(open_key(purpose), to_be(number), box).has_value();
    };
    CHECK(opens(ShortPurpose::client_message, 1));
    CHECK_FALSE(opens(ShortPurpose::client_message, 2));
    CHECK_FALSE(opens(ShortPurpose::server_message, 1));
}

// RFC 8439, 2.5.2.
TEST_CASE("Poly1305 is that of the RFC, in parts of any size", "[crypto][message_box]") {
    const ByteArray<32> key = {0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33, 0x7f, 0x44, 0x52,
                               0xfe, 0x42, 0xd5, 0x06, 0xa8, 0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d,
                               0xb2, 0xfd, 0x4a, 0xbf, 0xf6, 0xaf, 0x41, 0x49, 0xf5, 0x1b};
    const ByteArray<16> tag = {0xa8, 0x06, 0x1d, 0xc1, 0x30, 0x51, 0x36, 0xc6,
                               0xc2, 0x2b, 0x8b, 0xaf, 0x0c, 0x01, 0x27, 0xa9};
    const auto text = as_bytes("Cryptographic Forum Research Group");
    for (std::size_t first = 0; first <= text.size(); ++first) {
        Poly1305 authenticator(key);
        authenticator.update(text.first(first));
        authenticator.update(text.subspan(first));
        ByteArray<16> out{};
        authenticator.finish(out);
        CHECK(out == tag);
    }
}

}  // namespace
}  // namespace curvegate::crypto
