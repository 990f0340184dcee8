#include "wire/message_cutter.hpp"

#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <vector>

namespace curvegate::wire {
namespace {

using test::Buffer;
using test::pattern;
using What = MessageCutter::Cut::What;

constexpr std::size_t kMost = 300;

void add(Buffer& stream, Bytes message) {
    const auto length = serialise_message_length(message.size());
    stream.insert(stream.end(), length.begin(), length.end());
    stream.insert(stream.end(), message.begin(), message.end());
}

Buffer framed(Bytes message) {
    Buffer out;
    add(out, message);
    return out;
}

// All messages of a stream that comes in pieces of `size` bytes.
std::vector<Buffer> in_pieces(Bytes stream, std::size_t size) {
    MessageCutter cutter(kMost);
    std::vector<Buffer> out;
    while (!stream.empty()) {
        const Buffer piece = test::copy_of(stream.first(std::min(size, stream.size())));
        stream = stream.subspan(piece.size());
        for (Bytes rest = piece; !rest.empty();) {
            const auto cut = cutter.next(rest);
            REQUIRE(cut.what != What::bad_length);
            REQUIRE(cut.size > 0);
            if (cut.what != What::part) out.push_back(test::copy_of(cut.message()));
            rest = rest.subspan(cut.size);
        }
    }
    return out;
}

TEST_CASE("the example of the protocol is two messages", "[wire]") {
    const Buffer stream = {2, 0, 0, 0, 'h', 'i', 0, 0, 0, 0};
    CHECK(in_pieces(stream, stream.size()) == std::vector<Buffer>{{'h', 'i'}, {}});
    Buffer written;
    add(written, as_bytes("hi"));
    add(written, {});
    CHECK(written == stream);
}

TEST_CASE("messages are the same in pieces of every size", "[wire]") {
    std::vector<Buffer> messages;
    Buffer stream;
    for (const std::size_t size : {0U, 1U, 3U, 4U, 5U, 0U, 0U, 255U, 256U, 299U, 300U, 7U}) {
        messages.push_back(pattern(size));
        add(stream, messages.back());
    }
    for (std::size_t size = 1; size <= stream.size(); ++size) {
        CAPTURE(size);
        CHECK(in_pieces(stream, size) == messages);
    }
}

TEST_CASE("a message that lies whole in a piece is not copied", "[wire]") {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kMost}) {
        auto piece = framed(pattern(size));
        add(piece, pattern(9));
        MessageCutter cutter(kMost);
        const auto cut = cutter.next(piece);
        CHECK(cut.what == What::in_place);
        CHECK(cut.size == 4 + size);
        CHECK(cut.message().data() == piece.data() + 4);
        CHECK(cut.message().size() == size);
        // The first has left nothing behind.
        CHECK(cutter.next(Bytes(piece).subspan(cut.size)).what == What::in_place);
    }
}

TEST_CASE("a message that is cut anywhere is whole with its last byte", "[wire]") {
    const auto message = pattern(kMost);
    const auto bytes = framed(message);
    for (std::size_t came = 1; came < bytes.size(); ++came) {
        CAPTURE(came);
        MessageCutter cutter(kMost);
        const auto part = cutter.next(Bytes(bytes).first(came));
        CHECK(part.what == What::part);
        CHECK(part.size == came);
        CHECK(part.message().empty());
        auto rest = test::copy_of(Bytes(bytes).subspan(came));
        const std::size_t behind = rest.size();
        add(rest, pattern(5));
        const auto end = cutter.next(rest);
        CHECK(end.what == What::put_together);
        CHECK(end.size == behind);
        CHECK(test::same(end.message(), message));
        // What follows lies in one piece again.
        CHECK(cutter.next(Bytes(rest).subspan(behind)).what == What::in_place);
    }
}

TEST_CASE("no more is kept of a message than its length says", "[wire]") {
    MessageCutter cutter(kMost);
    const auto bytes = framed(pattern(100));
    CHECK(cutter.next(Bytes(bytes).first(50)).what == What::part);
    const auto cut = cutter.next(Bytes(bytes).subspan(50));
    REQUIRE(cut.what == What::put_together);
    CHECK(cut.whole.capacity() == 100);
}

TEST_CASE("a length over the most is refused with its fourth byte, whatever follows", "[wire]") {
    for (const std::uint32_t length : {std::uint32_t{kMost + 1}, 0x01000000U, 0xffffffffU}) {
        CAPTURE(length);
        auto stream = test::copy_of(to_le(length));
        stream.resize(1'000);
        for (std::size_t came = 0; came < 4; ++came) {
            MessageCutter cutter(kMost);
            CHECK(cutter.next(Bytes(stream).first(came)).what == What::part);
            const auto bad = cutter.next(Bytes(stream).subspan(came));
            CHECK(bad.what == What::bad_length);
            CHECK(bad.size == 4 - came);
            CHECK(bad.whole.capacity() == 0);
            // It stays so, also before a good one.
            const auto more = cutter.next(framed(pattern(1)));
            CHECK(more.what == What::bad_length);
            CHECK(more.size == 0);
        }
    }
}

TEST_CASE("no bytes are a part of a message", "[wire]") {
    MessageCutter cutter(kMost);
    const auto cut = cutter.next({});
    CHECK(cut.what == What::part);
    CHECK(cut.size == 0);
    CHECK(cutter.next(framed(pattern(3))).what == What::in_place);
}

}  // namespace
}  // namespace curvegate::wire
