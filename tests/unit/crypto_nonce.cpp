#include "crypto/nonce.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

#include <array>
#include <set>

namespace curvegate::crypto {
namespace {

static_assert(!std::is_copy_constructible_v<SendCounter> && !std::is_copy_assignable_v<SendCounter>);
static_assert(!std::is_copy_constructible_v<FreshNumber> && !std::is_copy_assignable_v<FreshNumber>);
static_assert(!std::is_constructible_v<FreshNumber, PacketNumber>, "only a counter makes one");
static_assert(!std::is_constructible_v<Nonce, ByteArray<24>>, "only a purpose and a number make a nonce");
static_assert(!std::is_convertible_v<PacketNumber, std::uint64_t>);

constexpr std::array kShort = {ShortPurpose::hello, ShortPurpose::initiate, ShortPurpose::client_message,
                               ShortPurpose::server_message};
constexpr std::array kLong = {LongPurpose::cookie, LongPurpose::vouch, LongPurpose::minute_key};

std::optional<PacketNumber> given(SendCounter& counter) {
    const auto fresh = counter.next();
    return fresh ? std::optional(fresh->number()) : std::nullopt;
}

TEST_CASE("a nonce is its purpose's prefix and the number", "[crypto][nonce]") {
    const auto text = [](const Nonce& nonce) { return std::string(as_text(nonce.bytes())); };
    const ByteArray<8> number = {'1', '2', '3', '4', '5', '6', '7', '8'};
    CHECK(text(Nonce::make(ShortPurpose::hello, number)) == "CurveCP-client-H12345678");
    CHECK(text(Nonce::make(ShortPurpose::initiate, number)) == "CurveCP-client-I12345678");
    CHECK(text(Nonce::make(ShortPurpose::client_message, number)) == "CurveCP-client-M12345678");
    CHECK(text(Nonce::make(ShortPurpose::server_message, number)) == "CurveCP-server-M12345678");
    LongTermNonce nonce;
    std::ranges::copy(std::string_view("abcdefghijklmnop"), nonce.bytes.begin());
    CHECK(text(Nonce::make(LongPurpose::cookie, nonce)) == "CurveCPKabcdefghijklmnop");
    CHECK(text(Nonce::make(LongPurpose::vouch, nonce)) == "CurveCPVabcdefghijklmnop");
    CHECK(text(Nonce::make(LongPurpose::minute_key, nonce)) == "minute-kabcdefghijklmnop");
}

TEST_CASE("no two purposes or numbers share a nonce", "[crypto][nonce]") {
    std::set<ByteArray<24>> seen;
    std::size_t made = 0;
    const std::array<std::uint64_t, 6> numbers = {0, 1, 2, 256, std::uint64_t{1} << 63, ~std::uint64_t{0}};
    for (const auto number : numbers) {
        for (const auto purpose : kShort) {
            seen.insert(to_array(Nonce::make(purpose, to_be(number)).bytes()));
            ++made;
        }
        for (const auto purpose : kLong) {
            seen.insert(to_array(Nonce::make(purpose, test::nonce_number(number)).bytes()));
            ++made;
        }
    }
    CHECK(seen.size() == made);
}

TEST_CASE("a send counter rises by one", "[crypto][nonce]") {
    SendCounter counter(PacketNumber{2});
    for (std::uint64_t expected = 2; expected < 100; ++expected)
        REQUIRE(given(counter) == PacketNumber{expected});
    CHECK_FALSE(counter.exhausted());
}

TEST_CASE("a send counter never gives 2^64-1 nor starts anew", "[crypto][nonce]") {
    SendCounter counter(PacketNumber{SendCounter::kNever - 2});
    CHECK(given(counter) == PacketNumber{SendCounter::kNever - 2});
    CHECK(given(counter) == PacketNumber{SendCounter::kNever - 1});
    CHECK(counter.exhausted());
    for (int i = 0; i < 3; ++i) CHECK_FALSE(counter.next().has_value());
    CHECK_FALSE(SendCounter(PacketNumber{SendCounter::kNever}).next().has_value());
}

TEST_CASE("a counter that was moved from gives nothing", "[crypto][nonce]") {
    SendCounter first(PacketNumber{5});
    SendCounter second(std::move(first));
    CHECK_FALSE(first.next().has_value());  // NOLINT(bugprone-use-after-move): that is what is tested
    CHECK(given(second) == PacketNumber{5});
    SendCounter third(PacketNumber{0});
    third = std::move(second);
    CHECK_FALSE(second.next().has_value());  // NOLINT(bugprone-use-after-move)
    CHECK(given(third) == PacketNumber{6});
}

TEST_CASE("a number that was handed on is nobody's twice", "[crypto][nonce]") {
    auto first = *SendCounter(PacketNumber{5}).next();
    auto second = std::move(first);
    CHECK(first.number() == FreshNumber::kNever);  // NOLINT(bugprone-use-after-move)
    CHECK(second.number() == PacketNumber{5});
    first = std::move(second);
    CHECK(second.number() == FreshNumber::kNever);  // NOLINT(bugprone-use-after-move)
    CHECK(first.number() == PacketNumber{5});
}

}  // namespace
}  // namespace curvegate::crypto
