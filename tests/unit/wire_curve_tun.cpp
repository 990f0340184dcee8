#include "support/secrets.hpp"
#include "wire/curve_tun.hpp"

#include <catch2/catch.hpp>

namespace curvegate::wire::curve_tun {
namespace {

using test::Buffer;
using test::hex;
using test::pattern;

template <class Value>
Value filled(std::size_t from) {
    Value out;
    const auto bytes = pattern(Value::kSize + from);
    std::copy_n(bytes.begin(), Value::kSize, out.bytes.begin());
    return out;
}
crypto::PublicKey key_number(Byte number) {
    ByteArray<32> bytes{};
    bytes.fill(0x11);
    bytes[0] = number;
    return *crypto::PublicKey::parse(bytes);
}

template <std::size_t N, class Part>
Buffer written(const Part& part) {
    ByteArray<N> out{};
    serialise(part, out);
    return test::copy_of(out);
}

const SealedHello kHello{key_number(1), {0x0102030405060708}, filled<HelloBox>(1)};
const SealedCookie kCookie{filled<crypto::LongTermNonce>(2), filled<CookieBox>(3)};
const SealedVouch kVouch{filled<Cookie>(4), {0xfffefdfcfbfaf9f8}, filled<InitiateBox>(5)};
const MessageHeader kMessage{{0x1112131415161718}};

Buffer hello_packet() {
    return written<kHelloSize>(kHello);
}
Buffer cookie_packet() {
    return written<kCookiePacketSize>(kCookie);
}
Buffer vouch_packet() {
    return written<kVouchSize>(kVouch);
}
Buffer message_packet(std::size_t text = 0) {
    auto out = written<kMessageHeaderSize>(kMessage);
    const auto box = pattern(text + 16);
    out.insert(out.end(), box.begin(), box.end());
    return out;
}

struct Kind {
    std::string name;
    Buffer packet;
    std::size_t index;  // in Packet
};
std::vector<Kind> all_kinds() {
    return {{"hello", hello_packet(), 0},
            {"cookie", cookie_packet(), 1},
            {"vouch", vouch_packet(), 2},
            {"message", message_packet(), 3},
            {"message of 20", message_packet(20), 3}};
}

bool refused(Bytes packet, Errc why) {
    const auto parsed = parse_packet(packet);
    return !parsed && parsed.error().is(why);
}

TEST_CASE("each packet stands on the wire as the specification says", "[wire]") {
    CHECK(hex(hello_packet()) ==
          "6c09afb28aa9fafc" + hex(kHello.client_short.bytes()) + "0102030405060708" + hex(kHello.box.bytes));
    CHECK(hex(cookie_packet()) == "1c45dcb941c0e3f6" + hex(kCookie.nonce.bytes) + hex(kCookie.box.bytes));
    CHECK(hex(vouch_packet()) ==
          "6c09afb28aa9fafd" + hex(kVouch.cookie.bytes) + "fffefdfcfbfaf9f8" + hex(kVouch.box.bytes));
    CHECK(hex(written<kMessageHeaderSize>(kMessage)) == "6d1b39cbf65a11b41112131415161718");
}

TEST_CASE("each packet comes back as it was written", "[wire]") {
    const auto hello = std::get<SealedHello>(*parse_packet(hello_packet()));
    CHECK(hello.client_short == kHello.client_short);
    CHECK(hello.number == kHello.number);
    CHECK(hello.box == kHello.box);
    const auto cookie = std::get<SealedCookie>(*parse_packet(cookie_packet()));
    CHECK(cookie.nonce == kCookie.nonce);
    CHECK(cookie.box == kCookie.box);
    const auto vouch = std::get<SealedVouch>(*parse_packet(vouch_packet()));
    CHECK(vouch.cookie == kVouch.cookie);
    CHECK(vouch.number == kVouch.number);
    CHECK(vouch.box == kVouch.box);
    for (const std::size_t text : {std::size_t{0}, std::size_t{1}, kMaxMessageSize}) {
        CHECK(std::get<MessageHeader>(*parse_packet(message_packet(text))).number == kMessage.number);
        CHECK(parse_message_header(message_packet(text))->number == kMessage.number);
    }
}

TEST_CASE("what a box held comes back as it was written", "[wire]") {
    const CookieBody cookie{key_number(2), filled<Cookie>(6)};
    ByteArray<kCookieBodySize> cookie_bytes{};
    serialise(cookie, cookie_bytes);
    CHECK(hex(cookie_bytes) == hex(cookie.server_short.bytes()) + hex(cookie.cookie.bytes));
    CHECK(parse_cookie_body(cookie_bytes)->server_short == cookie.server_short);
    CHECK(parse_cookie_body(cookie_bytes)->cookie == cookie.cookie);

    const VouchBody vouch{key_number(3), filled<crypto::LongTermNonce>(7), filled<VouchBox>(8)};
    ByteArray<kVouchBodySize> vouch_bytes{};
    serialise(vouch, vouch_bytes);
    CHECK(hex(vouch_bytes) == hex(vouch.client.bytes()) + hex(vouch.nonce.bytes) + hex(vouch.vouch.bytes));
    CHECK(parse_vouch_body(vouch_bytes)->client == vouch.client);
    CHECK(parse_vouch_body(vouch_bytes)->nonce == vouch.nonce);
    CHECK(parse_vouch_body(vouch_bytes)->vouch == vouch.vouch);
}

TEST_CASE("a packet cut short at any length is refused", "[wire]") {
    for (const auto& kind : all_kinds()) {
        for (std::size_t size = 0; size < kind.packet.size(); ++size) {
            INFO(kind.name << " of " << size << " bytes");
            const Bytes cut = Bytes(kind.packet).first(size);
            if (kind.index == 3 && size >= kMessageOverhead) {
                REQUIRE(parse_packet(cut).has_value());  // a shorter message: its box will not open
            } else {
                REQUIRE(refused(cut, Errc::wrong_length));
            }
            REQUIRE(parse_message_header(cut).has_value() == (kind.index == 3 && size >= kMessageOverhead));
        }
    }
}

TEST_CASE("a packet with one byte more is refused", "[wire]") {
    for (auto kind : all_kinds()) {
        INFO(kind.name);
        kind.packet.push_back(0);
        if (kind.index == 3) {
            CHECK(parse_packet(kind.packet).has_value());  // a message has no length of its own
        } else {
            CHECK(refused(kind.packet, Errc::wrong_length));
        }
    }
}

TEST_CASE("any bit changed in a magic is refused, elsewhere it changes the value", "[wire]") {
    for (const auto& kind : all_kinds()) {
        test::each_bit_flip(kind.packet, [&](const Buffer& changed, std::size_t bit) {
            INFO(kind.name << " bit " << bit);
            const auto parsed = parse_packet(changed);
            if (bit >= kMagicSize * 8) {
                // Only a short-term key can become a bad one, and here no flip but that of its high bit does.
                REQUIRE(parsed.has_value() == (kind.index != 0 || bit != (kMagicSize + 32) * 8 - 1));
                if (parsed) REQUIRE(parsed->index() == kind.index);
                return;
            }
            REQUIRE_FALSE(parsed.has_value());
            // One flip makes a hello's magic a vouch's and the other way round: the lengths tell them apart.
            const bool twin = (kind.index == 0 || kind.index == 2) && bit == 7 * 8;
            REQUIRE(parsed.error().is(twin ? Errc::wrong_length : Errc::wrong_magic));
            REQUIRE_FALSE(parse_message_header(changed).has_value());
        });
    }
}

TEST_CASE("the body of one kind under another's magic is refused", "[wire]") {
    for (const auto& magic : all_kinds()) {
        for (const auto& kind : all_kinds()) {
            if (magic.index == kind.index || magic.index == 3) continue;
            INFO(kind.name << " under the magic of " << magic.name);
            auto packet = kind.packet;
            std::copy_n(magic.packet.begin(), kMagicSize, packet.begin());
            CHECK(refused(packet, Errc::wrong_length));
        }
    }
    const Buffer zeros(kHelloSize);
    CHECK(refused(zeros, Errc::wrong_magic));
    // The empty packet, and the "ready" of the unmerged proposal, which version 1 does not have.
    CHECK(refused({}, Errc::wrong_length));
    auto ready = message_packet(20);
    std::ranges::copy(test::unhex("6d09afb28aa9fafd"), ready.begin());
    CHECK(refused(ready, Errc::wrong_magic));
}

TEST_CASE("only a message is taken for a message", "[wire]") {
    for (const auto& kind : all_kinds()) {
        INFO(kind.name);
        const auto header = parse_message_header(kind.packet);
        REQUIRE(header.has_value() == (kind.index == 3));
        if (!header) CHECK(header.error().is(Errc::wrong_magic));
    }
}

TEST_CASE("a weak key is refused wherever it stands", "[wire]") {
    const ByteArray<32> weak{};
    auto hello = hello_packet();
    std::ranges::copy(weak, hello.begin() + kMagicSize);
    const auto parsed = parse_packet(hello);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().is(crypto::Errc::weak_key));

    ByteArray<kCookieBodySize> cookie{};
    const auto cookie_body = parse_cookie_body(cookie);
    REQUIRE_FALSE(cookie_body.has_value());
    CHECK(cookie_body.error().is(crypto::Errc::weak_key));
    ByteArray<kVouchBodySize> vouch{};
    const auto vouch_body = parse_vouch_body(vouch);
    REQUIRE_FALSE(vouch_body.has_value());
    CHECK(vouch_body.error().is(crypto::Errc::weak_key));
}

TEST_CASE("a frame's length is two bytes, big-endian", "[wire]") {
    for (std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{255}, std::size_t{256}, kMaxPacketSize}) {
        ByteArray<kFrameHeaderSize> header{};
        serialise_frame_header(size, header);
        CHECK(header[0] == size / 256);
        CHECK(header[1] == size % 256);
        CHECK(parse_frame_header(header) == size);
    }
}

}  // namespace
}  // namespace curvegate::wire::curve_tun
