#include "wire/curve_tun_frames.hpp"

#include "support/bytes.hpp"

#include <catch2/catch.hpp>

#include <vector>

namespace curvegate::wire::curve_tun {
namespace {

using What = FrameStart::What;

std::vector<Byte> frame(std::size_t packet_size) {
    std::vector<Byte> out(kFrameHeaderSize + packet_size, 0x5a);
    serialise_frame_header(packet_size, MutableBytes(out).first<kFrameHeaderSize>());
    return out;
}

TEST_CASE("a frame is whole when its last byte has come, and not before", "[wire]") {
    for (const std::size_t size : {kMessageOverhead, std::size_t{1'000}, kMaxPacketSize}) {
        const auto bytes = frame(size);
        for (const std::size_t came : {std::size_t{2}, std::size_t{3}, bytes.size() - 1}) {
            const auto start = next_frame(Bytes(bytes).first(came), kMessagesOnly);
            CHECK(start.what == What::part);
            CHECK(start.frame_size == bytes.size());
        }
        const auto start = next_frame(bytes, kMessagesOnly);
        CHECK(start.what == What::packet);
        CHECK(start.frame_size == bytes.size());
    }
}

TEST_CASE("until the length is known the least that may come is expected", "[wire]") {
    const auto bytes = frame(kHelloSize);
    for (const std::size_t came : {0U, 1U}) {
        const auto start = next_frame(Bytes(bytes).first(came), PacketSizes::exactly(kHelloSize));
        CHECK(start.what == What::part);
        CHECK(start.frame_size == kFrameHeaderSize + kHelloSize);
    }
}

TEST_CASE("a length that may not come is refused by its two bytes alone", "[wire]") {
    const auto refused = [](std::size_t packet_size, PacketSizes allowed) {
        return next_frame(Bytes(frame(packet_size)).first<kFrameHeaderSize>(), allowed).what ==
               What::bad_length;
    };
    CHECK(refused(0, kMessagesOnly));
    CHECK(refused(kMessageOverhead - 1, kMessagesOnly));
    CHECK_FALSE(refused(kMessageOverhead, kMessagesOnly));
    CHECK_FALSE(refused(kMaxPacketSize, kMessagesOnly));
    for (const std::size_t size : {kHelloSize, kCookiePacketSize, kVouchSize}) {
        CHECK(refused(size - 1, PacketSizes::exactly(size)));
        CHECK_FALSE(refused(size, PacketSizes::exactly(size)));
        CHECK(refused(size + 1, PacketSizes::exactly(size)));
    }
}

TEST_CASE("what follows a frame is left alone", "[wire]") {
    auto bytes = frame(40);
    const auto second = frame(50);
    bytes.insert(bytes.end(), second.begin(), second.end());
    const auto first = next_frame(bytes, kMessagesOnly);
    REQUIRE(first.what == What::packet);
    CHECK(first.frame_size == kFrameHeaderSize + 40);
    CHECK(next_frame(Bytes(bytes).subspan(first.frame_size), kMessagesOnly).frame_size == second.size());
}

}  // namespace
}  // namespace curvegate::wire::curve_tun
