#include "crypto/permutation.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <bit>
#include <set>

namespace curvegate::crypto {
namespace {

ByteArray<32> counted() {
    ByteArray<32> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<Byte>(i);
    return bytes;
}
constexpr ByteArray<16> kSalt = {0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
                                 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f};

NoncePermutation permutation(const ByteArray<16>& salt = kSalt) {
    return *NoncePermutation::derive(test::secret_of<LongTermSecret>(counted()), salt);
}

std::string text(const LongTermNonce& nonce) {
    return test::hex(nonce.bytes);
}

TEST_CASE("the nonce permutation gives its frozen values", "[crypto][permutation]") {
    // From another implementation of PROTOCOL 6.2, in Python with hashlib's BLAKE2b and a SipHash-2-4 of its
    // own.
    const auto p = permutation();
    CHECK(text(p.apply(0, 0)) == "5e0643167b0e7e5c29c13a5b0d4220e9");
    CHECK(text(p.apply(1, 0)) == "e60e1e715630d3c5dbd1178c066d9f48");
    CHECK(text(p.apply(0, 1)) == "2766a81b5d5e47ec6fa3d7dc113a902d");
    CHECK(text(p.apply(0x0123456789abcdef, 0xfedcba9876543210)) == "31bf8f0b344bb4e1e05d099111f24e3a");
    CHECK(text(p.apply(~std::uint64_t{0}, ~std::uint64_t{0})) == "f449b495f4387140e6d482437e3154ff");
    const auto minute = *NoncePermutation::derive(test::secret_of<MinuteKey>(counted()));
    CHECK(text(minute.apply(0, 0)) == "38349e964c806e6f3769c4c7470f90c8");
    CHECK(text(minute.apply(7, 42)) == "f52a001b5d548332caf72d008004a2fd");
}

TEST_CASE("SipHash-2-4 gives its published value", "[crypto][permutation]") {
    const auto bytes = counted();
    const auto key = FixedBytes<32>(bytes).first<16>();
    CHECK(siphash(key, Bytes(bytes).first(15)) == 0xe545be4961ca29a1);
}

TEST_CASE("distinct counters give distinct nonces even with one random half", "[crypto][permutation]") {
    const auto p = permutation();
    std::set<LongTermNonce> seen;
    for (std::uint64_t counter = 0; counter < 5'000; ++counter) seen.insert(p.apply(counter, 0x1234));
    for (std::uint64_t random = 0; random < 5'000; ++random) seen.insert(p.apply(~std::uint64_t{0}, random));
    CHECK(seen.size() == 10'000);
}

TEST_CASE("the counter comes back from its nonce", "[crypto][permutation]") {
    const auto p = permutation();
    test::SeededRandom random(5);
    for (int i = 0; i < 2'000; ++i) {
        const auto counter = i < 64 ? std::uint64_t{1} << i : random.next();
        REQUIRE(p.counter_of(p.apply(counter, random.next())) == counter);
    }
}

TEST_CASE("a nonce does not tell its counter", "[crypto][permutation]") {
    const auto p = permutation();
    std::size_t changed = 0;
    for (unsigned bit = 0; bit < 64; ++bit) {
        const auto a = p.apply(1000, 77);
        const auto b = p.apply(1000 ^ (std::uint64_t{1} << bit), 77);
        for (std::size_t i = 0; i < 16; ++i)
            changed +=
                static_cast<std::size_t>(std::popcount(static_cast<unsigned>(a.bytes[i] ^ b.bytes[i])));
    }
    CHECK(changed > 64 * 54);  // half of 128 bits each time, as if by chance
    CHECK(changed < 64 * 74);
}

TEST_CASE("another salt, secret or kind of key gives other nonces", "[crypto][permutation]") {
    auto salt = kSalt;
    salt[15] = static_cast<Byte>(salt[15] ^ 1);
    const auto other_secret = *NoncePermutation::derive(test::secret_number<LongTermSecret>(1), kSalt);
    const auto minute = *NoncePermutation::derive(test::secret_of<MinuteKey>(counted()));
    const std::set<LongTermNonce> all = {permutation().apply(1, 2), permutation(salt).apply(1, 2),
                                         other_secret.apply(1, 2), minute.apply(1, 2)};
    CHECK(all.size() == 4);
}

TEST_CASE("a permutation keeps its round keys in locked memory and gives them back",
          "[crypto][permutation]") {
    const auto before = test::pool().in_use();
    {
        const auto p = permutation();
        CHECK(test::pool().in_use() == before + 4);
    }
    CHECK(test::pool().in_use() == before);
}

}  // namespace
}  // namespace curvegate::crypto
