#include "support/bytes.hpp"
#include "wire/curvecp_message.hpp"

#include <boost/json.hpp>

#include <catch2/catch.hpp>

#include <fstream>

namespace curvegate::wire::curvecp {
namespace {

namespace json = boost::json;
using test::Buffer;
using test::copy_of;
using test::pattern;

constexpr std::uint64_t kLast = (std::uint64_t{1} << 60) - 1;

bool same(const Message& a, const Message& b) {
    const auto extension = [](const Message& m) { return m.extension.value_or(Extension{}); };
    return a.id == b.id && a.acked_id == b.acked_id && a.acked == b.acked && a.has_block == b.has_block &&
           a.end == b.end && a.position == b.position && test::same(a.block, b.block) &&
           a.extension.has_value() == b.extension.has_value() && extension(a).limit == extension(b).limit &&
           extension(a).capabilities == extension(b).capabilities;
}

Buffer written(const Message& message, std::size_t size) {
    Buffer out(size, 0xee);  // what serialise() does not write shows
    serialise(message, out);
    return out;
}
Buffer written(const Message& message) {
    return written(message, message_size(message));
}

/// A message with every field in use.
Message full(Bytes block) {
    Message out;
    out.id = {0x01020304};
    out.acked_id = {0xfffefdfc};
    out.acked = {Range{0, 1'000},    {70'000, 71'024},   {71'025, 136'560},
                 {202'095, 202'096}, {235'000, 240'000}, {240'000, 304'512}};
    out.has_block = true;
    out.end = StreamEnd::eof;
    out.position = 0x0102030405060708;
    out.block = block;
    out.extension = Extension{.limit = 0xf1f2f3f4f5f6f7f8, .capabilities = 0xa1a2a3a4};
    return out;
}

void check_round_trip(const Message& message, std::size_t size) {
    const auto bytes = written(message, size);
    const auto back = parse_message(bytes);
    REQUIRE(back.has_value());
    CHECK(same(*back, message));
    CHECK(written(*back, size) == bytes);
}

TEST_CASE("a message comes back as it was written, in every legal length", "[wire]") {
    for (const std::size_t length : {0U, 1U, 15U, 16U, 17U, 511U, 512U, 513U, 1'023U, 1'024U}) {
        const auto block = pattern(length);
        auto message = full(block);
        INFO("block of " << length);
        for (std::size_t size = message_size(message); size <= kMaxMessage; size += 16)
            check_round_trip(message, size);
        message.extension.reset();
        for (std::size_t size = message_size(message); size <= kMaxMessage; size += 16)
            check_round_trip(message, size);
    }
}

TEST_CASE("fields stand where the protocol puts them", "[wire]") {
    const auto block = pattern(5);
    auto message = full(block);
    message.end = StreamEnd::failure;
    const auto bytes = written(message);
    REQUIRE(bytes.size() == 80);
    CHECK(test::hex(bytes) ==
          "04030201fcfdfeffe803000000000000"
          "880d010000040100ffffffff0100888088130000"
          "00fc0510"
          "0807060504030201"
          "63676631a4a3a2a1f8f7f6f5f4f3f2f1"
          "0000000000000000000000" +
              test::hex(block));
}

TEST_CASE("sizes are the smallest legal ones", "[wire]") {
    CHECK(message_size(Message{}) == 48);
    CHECK(message_size(0) == 64);
    CHECK(message_size(1) == 80);
    CHECK(message_size(16) == 80);
    CHECK(message_size(17) == 96);
    CHECK(message_size(kFirstBlock) == 576);
    CHECK(message_size(kMaxBlock) == kMaxMessage);
}

TEST_CASE("other lengths than multiples of 16 from 48 to 1088 are refused", "[wire]") {
    const Buffer zeros(2'000);
    for (std::size_t size = 0; size <= zeros.size(); ++size) {
        const auto parsed = parse_message(Bytes(zeros).first(size));
        const bool legal = size >= 48 && size <= 1'088 && size % 16 == 0;
        INFO(size);
        CHECK(parsed.has_value() == legal);
        if (!parsed) CHECK(parsed.error().is(Errc::wrong_length));
    }
}

TEST_CASE("a message cut short is refused or has another block, and is never read beyond its end", "[wire]") {
    for (const std::size_t length : {1U, 100U, 1'024U}) {
        const auto block = pattern(length);
        const auto bytes = written(full(block));
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            const Buffer part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
            const auto parsed = parse_message(part);
            if (size < kMessageHeader + length || size % 16 != 0) {
                REQUIRE_FALSE(parsed.has_value());
                CHECK(parsed.error().is(Errc::wrong_length));
            } else {
                REQUIRE(parsed.has_value());
                CHECK(parsed->block.data() + length == part.data() + size);
            }
        }
    }
}

TEST_CASE("a flipped bit never does harm", "[wire]") {
    const auto block = pattern(100);
    std::size_t refused = 0;
    test::each_bit_flip(written(full(block)), [&](Bytes bytes, std::size_t) {
        const auto parsed = parse_message(bytes);
        if (!parsed) {
            ++refused;
            return;
        }
        for (const auto& range : parsed->acked) CHECK(range.begin <= range.end);
        CHECK(parsed->block.size() <= kMaxBlock);
    });
    CHECK(refused > 0);
}

TEST_CASE("with unused flags or a length over 1024 there is no block", "[wire]") {
    Buffer bytes(kMaxMessage);
    for (unsigned field = 0; field < 65'536; ++field) {
        store_le<std::uint16_t>(MutableBytes(bytes).subspan<38, 2>(), static_cast<std::uint16_t>(field));
        const auto parsed = parse_message(bytes);
        REQUIRE(parsed.has_value());
        const unsigned length = field & 2'047;
        const bool block = field < 8'192 && length <= 1'024;
        if (parsed->has_block != block) FAIL("field " << field);
        if (!block) {
            if (!parsed->block.empty() || parsed->end != StreamEnd::none) FAIL("field " << field);
            continue;
        }
        const auto end = (field & 4'096) != 0   ? StreamEnd::failure
                         : (field & 2'048) != 0 ? StreamEnd::eof
                                                : StreamEnd::none;
        if (parsed->end != end || parsed->block.size() != length) FAIL("field " << field);
    }
}

TEST_CASE("a block or range beyond the end of any stream is refused", "[wire]") {
    const auto block = pattern(10);
    auto message = full(block);
    message.position = kLast - 10;
    CHECK(parse_message(written(message)).has_value());
    for (const auto position : {kLast - 9, kLast, kLast + 1, ~std::uint64_t{0}, ~std::uint64_t{0} - 9}) {
        message.position = position;
        const auto parsed = parse_message(written(message));
        REQUIRE_FALSE(parsed.has_value());
        CHECK(parsed.error().is(Errc::wrong_range));
    }
    message = full(block);
    message.acked = {};
    message.acked[0].end = kLast;
    CHECK(parse_message(written(message)).has_value());
    for (const auto end : {kLast + 1, ~std::uint64_t{0}}) {
        message.acked[0].end = end;
        const auto parsed = parse_message(written(message));
        REQUIRE_FALSE(parsed.has_value());
        CHECK(parsed.error().is(Errc::wrong_range));
    }
    message.acked[0].end = kLast - 10;
    message.acked[1] = {kLast - 5, kLast + 1};
    const auto parsed = parse_message(written(message));
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().is(Errc::wrong_range));
}

TEST_CASE("the extension is seen only right behind the header and in padding", "[wire]") {
    const auto block = pattern(100);
    const auto bytes = written(full(block));
    const auto seen = [](const Buffer& from) { return parse_message(from)->extension.has_value(); };
    CHECK(seen(bytes));
    for (std::size_t i = 48; i < 52; ++i) {
        auto other = bytes;
        other[i] ^= 1;
        CHECK_FALSE(seen(other));
    }
    // A block that says the same words is a block.
    Buffer words(copy_of(Bytes(bytes).subspan(48, 16)));
    Message message;
    message.id = {1};
    message.has_block = true;
    message.block = words;
    CHECK(written(message).size() == 64);
    CHECK_FALSE(seen(written(message)));
    CHECK_FALSE(parse_message(written(message, 80))->extension.has_value());
}

TEST_CASE("a block that already stands at the end of the message stays there", "[wire]") {
    const auto block = pattern(100);
    auto message = full(block);
    const auto expected = written(message);
    Buffer out(expected.size(), 0xee);
    std::ranges::copy(block, out.end() - 100);
    message.block = Bytes(out).last(100);
    serialise(message, out);
    CHECK(out == expected);
}

// ---- messages of the reference ----

const json::array& examples() {
    static const json::value all = [] {
        std::ifstream in(std::string(CURVEGATE_TESTS_DIR) + "/vectors/curvecp_udp.json");
        const std::string text((std::istreambuf_iterator<char>(in)), {});
        return json::parse(text);
    }();
    return all.as_object().at("message_examples").as_array();
}

TEST_CASE("recorded messages mean what their recorder says, and are rebuilt byte for byte",
          "[wire][vectors]") {
    REQUIRE(examples().size() == 9);
    for (const auto& item : examples()) {
        const auto& example = item.as_object();
        const auto& meaning = example.at("decoded").as_object();
        const auto number = [&](std::string_view key) { return meaning.at(key).to_number<std::uint64_t>(); };
        INFO(example.at("description").as_string().c_str());
        const auto bytes = test::unhex(std::string(example.at("hex").as_string()));
        const auto parsed = parse_message(bytes);
        REQUIRE(parsed.has_value());
        CHECK(parsed->id.value == number("id"));
        CHECK(parsed->acked_id.value == number("ack_id"));
        std::uint64_t end = number("ack_range1_end");
        CHECK(parsed->acked[0] == Range{0, end});
        for (std::size_t i = 1; i < kRanges; ++i) {
            const auto gap = "gap" + std::to_string(i) + std::to_string(i + 1);
            const std::uint64_t begin = end + number(gap);
            end = begin + number("range" + std::to_string(i + 1));
            CHECK(parsed->acked[i] == Range{begin, end});
        }
        CHECK(parsed->position == number("block_pos"));
        CHECK(test::hex(parsed->block) == meaning.at("data").as_string());
        CHECK((parsed->end == StreamEnd::eof) == meaning.at("eof").as_bool());
        CHECK((parsed->end == StreamEnd::failure) == meaning.at("failure").as_bool());
        CHECK_FALSE(parsed->extension.has_value());
        CHECK(written(*parsed, bytes.size()) == bytes);
    }
}

}  // namespace
}  // namespace curvegate::wire::curvecp
