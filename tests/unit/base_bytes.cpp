#include "base/bytes.hpp"
#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <limits>

namespace curvegate {
namespace {

struct ApplesTag;
struct PearsTag;
using Apples = Strong<ApplesTag, 4>;
using Pears = Strong<PearsTag, 4>;
static_assert(!std::is_convertible_v<Apples, Pears> && !std::is_constructible_v<Apples, Pears>);
static_assert(std::is_trivially_copyable_v<Apples>);

static_assert(load_be<std::uint16_t>(ByteArray<2>{0x12, 0x34}) == 0x1234);
static_assert(to_be(std::uint32_t{0x01020304}) == ByteArray<4>{1, 2, 3, 4});

TEST_CASE("big-endian integers stand in the order of the wire", "[base]") {
    CHECK(test::hex(to_be(std::uint64_t{0x0102030405060708})) == "0102030405060708");
    CHECK(test::hex(to_be(std::uint16_t{0xfffe})) == "fffe");
    CHECK(test::hex(to_be(Byte{7})) == "07");
    for (const std::uint64_t value :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 63, ~std::uint64_t{0}})
        CHECK(load_be<std::uint64_t>(to_be(value)) == value);
    for (const std::uint16_t value :
         {std::uint16_t{0}, std::uint16_t{255}, std::uint16_t{256}, std::uint16_t{0xffff}})
        CHECK(load_be<std::uint16_t>(to_be(value)) == value);
}

TEST_CASE("a reader takes fields one after the other", "[base]") {
    const auto bytes = test::unhex("0102030405060708090a");
    Reader reader(bytes);
    CHECK(test::hex(reader.take<2>()) == "0102");
    CHECK(reader.integer<std::uint32_t>() == 0x03040506);
    CHECK(reader.integer<Byte>() == 7);
    CHECK(test::hex(reader.rest()) == "08090a");
    CHECK(reader.take<0>().empty());
    CHECK(test::hex(reader.take<3>()) == "08090a");
    CHECK(reader.rest().empty());
}

TEST_CASE("a writer fills fields one after the other", "[base]") {
    test::Buffer bytes(10, 0xee);
    Writer writer(bytes);
    writer.integer(std::uint16_t{0x0102}).put(test::unhex("0304"));
    auto claimed = writer.claim<3>();
    CHECK(writer.left() == 3);
    writer.put({}).integer(std::uint8_t{8});
    std::ranges::copy(test::unhex("050607"), claimed.begin());
    CHECK(writer.left() == 2);
    CHECK(test::hex(bytes) == "0102030405060708eeee");
}

TEST_CASE("strong bytes compare by content", "[base]") {
    const Apples a{{1, 2, 3, 4}};
    const Apples b{{1, 2, 3, 5}};
    CHECK(a == Apples{{1, 2, 3, 4}});
    CHECK(a != b);
    CHECK(a < b);
}

TEST_CASE("bytes and text are two views of the same", "[base]") {
    const std::string_view text("a\0b", 3);
    CHECK(as_bytes(text).size() == 3);
    CHECK(as_text(as_bytes(text)) == text);
    CHECK(as_bytes("").empty());
}

}  // namespace
}  // namespace curvegate
