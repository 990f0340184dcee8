#include "crypto/keys.hpp"
#include "crypto/permutation.hpp"
#include "tests/unit/vault_support.hpp"

#include <sodium.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define CURVEGATE_HAS_MEMCHECK 1
#endif

// Run by `valgrind --error-exitcode=9 curvegate-unit-tests "[constant-time]"`: secrets are marked undefined,
// so that memcheck reports each branch and each index that depends on them.

namespace curvegate::vault {
namespace {

#ifdef CURVEGATE_HAS_MEMCHECK
bool watched() {
    return RUNNING_ON_VALGRIND != 0;
}
void mark_secret(Bytes bytes) {
    VALGRIND_MAKE_MEM_UNDEFINED(bytes.data(), bytes.size());
}
void mark_public(Bytes bytes) {
    VALGRIND_MAKE_MEM_DEFINED(bytes.data(), bytes.size());
}
#else
bool watched() {
    return false;
}
void mark_secret(Bytes) {}
void mark_public(Bytes) {}
#endif

template <class T>
T revealed(T value) {
    mark_public(Bytes(reinterpret_cast<const Byte*>(&value), sizeof value));
    return value;
}

TEST_CASE("comparing keys, tags and zeros branches on no secret", "[constant-time]") {
    if (!watched()) WARN("SKIPPED as a check of timing: not under valgrind");
    ByteArray<32> a{};
    a.fill(7);
    ByteArray<32> b = a;
    mark_secret(a);
    CHECK(revealed(crypto::equal_constant_time(a, b)));
    b[31] = 8;
    CHECK_FALSE(revealed(crypto::equal_constant_time(a, b)));
    CHECK(revealed(::sodium_memcmp(a.data(), b.data(), a.size())) != 0);
    CHECK(revealed(::sodium_is_zero(a.data(), a.size())) == 0);
    mark_public(a);
}

TEST_CASE("the nonce permutation branches on no secret", "[constant-time]") {
    auto key = test::key_of(KeyRole::server, 0x11);
    mark_secret(crypto::SecretBytes::of(key.secret));
    const auto permutation = crypto::NoncePermutation::derive(key.secret, ByteArray<16>{});
    REQUIRE(permutation);
    const auto nonce = revealed(permutation->apply(1, 2));
    CHECK(revealed(permutation->counter_of(nonce)) == 1);
    mark_public(crypto::SecretBytes::of(key.secret));
}

TEST_CASE("a secret is written as text without a branch on it", "[constant-time]") {
    ByteArray<32> secret{};
    secret.fill(0x11);
    mark_secret(secret);
    std::array<char, 45> text{};
    ::sodium_bin2base64(text.data(), text.size(), secret.data(), secret.size(),
                        sodium_base64_VARIANT_ORIGINAL);
    mark_public(Bytes(reinterpret_cast<const Byte*>(text.data()), text.size()));
    CHECK(std::string_view(text.data()) == "ERERERERERERERERERERERERERERERERERERERERERE=");
    mark_public(secret);
}

}  // namespace
}  // namespace curvegate::vault
