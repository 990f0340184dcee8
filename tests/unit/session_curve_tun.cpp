#include "session/curve_tun.hpp"
#include "support/secrets.hpp"

#include <catch2/catch.hpp>

namespace curvegate::session::curve_tun {
namespace {

using crypto::PacketNumber;
using test::Buffer;
using test::pattern;
namespace packets = curvegate::wire::curve_tun;

static_assert(!std::is_copy_constructible_v<Session>, "two copies would use one number twice");

constexpr std::uint64_t kLast = ~std::uint64_t{0} - 1;  // the last number that may be sent

crypto::SharedKey key() {
    return test::secret_number<crypto::SharedKey>(1);
}

struct Ends {
    Session client = *Session::create(Role::client, key());
    Session server = *Session::create(Role::server, key());
};

/// A packet, without its frame header.
Buffer sealed(Session& session, const Buffer& text) {
    Buffer frame(kFrameOverhead);
    frame.insert(frame.end(), text.begin(), text.end());
    REQUIRE(session.seal_frame(frame).has_value());
    REQUIRE(packets::parse_frame_header(Bytes(frame).first<2>()) == frame.size() - 2);
    return {frame.begin() + 2, frame.end()};
}

std::optional<Buffer> opened(Session& session, Buffer packet) {
    const auto payload = session.open_packet(packet);
    if (!payload) return std::nullopt;
    return test::copy_of(*payload);
}

template <class E>
bool refuses(Session& session, Buffer packet, E why) {
    const auto payload = session.open_packet(packet);
    return !payload && payload.error().is(why);
}

/// The first message as a peer would send it that counts from `number`.
Buffer with_number(std::uint64_t number, const Buffer& text = {}) {
    auto peer = *Session::create(Role::client, key(), {.sent = {number}});
    return sealed(peer, text);
}

TEST_CASE("messages go both ways, each direction counting from 2", "[session]") {
    Ends ends;
    for (std::uint64_t number = 2; number < 8; ++number) {
        const auto text = pattern(number);
        const auto up = sealed(ends.client, text);
        const auto down = sealed(ends.server, text);
        CHECK(packets::parse_message_header(up)->number.value == number);
        CHECK(packets::parse_message_header(down)->number.value == number);
        CHECK(up != down);
        CHECK(opened(ends.server, up) == text);
        CHECK(opened(ends.client, down) == text);
    }
}

TEST_CASE("a message of 0, 1 and 65,503 bytes passes", "[session]") {
    Ends ends;
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kMaxMessageSize}) {
        const auto packet = sealed(ends.client, pattern(size));
        CHECK(packet.size() == size + packets::kMessageOverhead);
        const auto text = opened(ends.server, packet);
        REQUIRE(text.has_value());
        CHECK(test::same(*text, pattern(size)));
    }
}

TEST_CASE("a message of 65,504 bytes is refused before a number is used", "[session]") {
    Ends ends;
    for (const std::size_t size : {kMaxMessageSize + 1, kMaxMessageSize + 100'000}) {
        Buffer frame(kFrameOverhead + size);
        const auto result = ends.client.seal_frame(frame);
        REQUIRE_FALSE(result.has_value());
        CHECK(result.error().is(Errc::message_too_long));
    }
    const auto packet = sealed(ends.client, pattern(3));
    CHECK(packets::parse_message_header(packet)->number == packets::kFirstMessageNumber);
    CHECK(opened(ends.server, packet) == pattern(3));
}

TEST_CASE("the first message must carry number 2", "[session]") {
    Ends ends;
    // 2^64-1 has no sealing end: its number is written into a packet by hand.
    for (const std::uint64_t number :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 63, kLast})
        CHECK(refuses(ends.server, with_number(number), Errc::wrong_number));
    auto last = with_number(2);
    store_be<std::uint64_t>(MutableBytes(last).subspan<packets::kMagicSize, 8>(), ~std::uint64_t{0});
    CHECK(refuses(ends.server, last, Errc::wrong_number));
    CHECK(opened(ends.server, with_number(2)).has_value());
}

TEST_CASE("a message that is repeated, skipped or swapped is refused", "[session]") {
    Ends ends;
    const auto second = sealed(ends.client, pattern(2));
    const auto third = sealed(ends.client, pattern(3));
    const auto fourth = sealed(ends.client, pattern(4));
    CHECK(refuses(ends.server, third, Errc::wrong_number));
    REQUIRE(opened(ends.server, second).has_value());
    CHECK(refuses(ends.server, second, Errc::wrong_number));
    CHECK(refuses(ends.server, fourth, Errc::wrong_number));
    REQUIRE(opened(ends.server, third).has_value());
    CHECK(refuses(ends.server, second, Errc::wrong_number));
    CHECK(refuses(ends.server, third, Errc::wrong_number));
    CHECK(opened(ends.server, fourth).has_value());
}

TEST_CASE("an end's own message sent back to it does not open", "[session]") {
    Ends ends;
    CHECK(refuses(ends.client, sealed(ends.client, pattern(5)), Errc::box_does_not_open));
    CHECK(refuses(ends.server, sealed(ends.server, pattern(5)), Errc::box_does_not_open));
}

TEST_CASE("a message with any bit changed is refused, and nothing has changed after", "[session]") {
    Ends ends;
    const auto packet = sealed(ends.client, pattern(24));
    test::each_bit_flip(packet, [&](const Buffer& changed, std::size_t bit) {
        INFO("bit " << bit);
        if (bit < packets::kMagicSize * 8) {
            REQUIRE(refuses(ends.server, changed, wire::Errc::wrong_magic));
        } else if (bit < packets::kMessageHeaderSize * 8) {
            REQUIRE(refuses(ends.server, changed, Errc::wrong_number));
        } else {
            REQUIRE(refuses(ends.server, changed, Errc::box_does_not_open));
        }
    });
    CHECK(opened(ends.server, packet) == pattern(24));
}

TEST_CASE("a message cut short or made longer is refused", "[session]") {
    Ends ends;
    const auto packet = sealed(ends.client, pattern(24));
    for (std::size_t size = 0; size < packet.size(); ++size) {
        const Buffer cut(packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(size));
        if (size < packets::kMessageOverhead) {
            REQUIRE(refuses(ends.server, cut, wire::Errc::wrong_length));
        } else {
            REQUIRE(refuses(ends.server, cut, Errc::box_does_not_open));
        }
    }
    auto longer = packet;
    longer.push_back(0);
    CHECK(refuses(ends.server, longer, Errc::box_does_not_open));
    CHECK(opened(ends.server, packet) == pattern(24));
}

TEST_CASE("a message of another session does not open", "[session]") {
    Ends ends;
    auto stranger = *Session::create(Role::client, test::secret_number<crypto::SharedKey>(2));
    CHECK(refuses(ends.server, sealed(stranger, pattern(5)), Errc::box_does_not_open));
}

TEST_CASE("after 2^64-3 and 2^64-2 both ends are exhausted", "[session]") {
    const PacketNumber start{kLast - 1};
    auto sender = *Session::create(Role::client, key(), {.sent = start});
    auto receiver = *Session::create(Role::server, key(), {.received = start});
    for (int i = 0; i < 2; ++i) {
        CHECK_FALSE(sender.exhausted());
        CHECK_FALSE(receiver.exhausted());
        REQUIRE(opened(receiver, sealed(sender, pattern(7))) == pattern(7));
    }
    CHECK(sender.exhausted());
    CHECK(receiver.exhausted());
    Buffer frame(kFrameOverhead);
    const auto more = sender.seal_frame(frame);
    REQUIRE_FALSE(more.has_value());
    CHECK(more.error().is(Errc::numbers_exhausted));
    // Neither 2^64-1 nor a counter that went round is taken.
    auto wrapped = with_number(2);
    CHECK(refuses(receiver, wrapped, Errc::wrong_number));
    store_be<std::uint64_t>(MutableBytes(wrapped).subspan<packets::kMagicSize, 8>(), ~std::uint64_t{0});
    CHECK(refuses(receiver, wrapped, Errc::wrong_number));
    store_be<std::uint64_t>(MutableBytes(wrapped).subspan<packets::kMagicSize, 8>(), 0);
    CHECK(refuses(receiver, wrapped, Errc::wrong_number));
}

TEST_CASE("a session that was moved goes on counting", "[session]") {
    Ends ends;
    REQUIRE(opened(ends.server, sealed(ends.client, pattern(1))).has_value());
    Session client = std::move(ends.client);
    Session server = std::move(ends.server);
    CHECK(opened(server, sealed(client, pattern(2))) == pattern(2));
}

}  // namespace
}  // namespace curvegate::session::curve_tun
