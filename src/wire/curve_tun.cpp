#include "wire/curve_tun.hpp"

namespace curvegate::wire::curve_tun {
namespace {

// PROTOCOL 4.1
using Magic = ByteArray<kMagicSize>;
constexpr Magic kHelloMagic = {0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfc};
constexpr Magic kCookieMagic = {0x1c, 0x45, 0xdc, 0xb9, 0x41, 0xc0, 0xe3, 0xf6};
constexpr Magic kVouchMagic = {0x6c, 0x09, 0xaf, 0xb2, 0x8a, 0xa9, 0xfa, 0xfd};
constexpr Magic kMessageMagic = {0x6d, 0x1b, 0x39, 0xcb, 0xf6, 0x5a, 0x11, 0xb4};

template <class Value>
Value take(Reader& reader) noexcept {
    return Value{to_array(reader.take<Value::kSize>())};
}

Result<Packet> parse_hello(Reader body) {
    auto client_short = crypto::PublicKey::parse(body.take<32>());
    if (!client_short) return fail(std::move(client_short));
    const crypto::PacketNumber number{body.integer<std::uint64_t>()};
    return SealedHello{*client_short, number, take<HelloBox>(body)};
}

Packet parse_cookie(Reader body) {
    const auto nonce = take<crypto::LongTermNonce>(body);
    return SealedCookie{nonce, take<CookieBox>(body)};
}

Packet parse_vouch(Reader body) {
    const auto cookie = take<Cookie>(body);
    const crypto::PacketNumber number{body.integer<std::uint64_t>()};
    return SealedVouch{cookie, number, take<InitiateBox>(body)};
}

}  // namespace

std::size_t parse_frame_header(FixedBytes<kFrameHeaderSize> header) noexcept {
    return load_be<std::uint16_t>(header);
}

void serialise_frame_header(std::size_t packet_size, MutableFixedBytes<kFrameHeaderSize> out) noexcept {
    store_be<std::uint16_t>(out, static_cast<std::uint16_t>(packet_size));
}

Result<Packet> parse_packet(Bytes packet) {
    if (packet.size() < kMagicSize) return fail(Errc::wrong_length);
    Reader reader(packet);
    const Magic magic = to_array(reader.take<kMagicSize>());
    const auto exact = [&](std::size_t size) { return packet.size() == size; };
    if (magic == kMessageMagic) {
        auto message = parse_message_header(packet);
        if (!message) return fail(std::move(message));
        return *message;
    }
    if (magic == kHelloMagic) return exact(kHelloSize) ? parse_hello(reader) : fail(Errc::wrong_length);
    if (magic == kCookieMagic) {
        if (!exact(kCookiePacketSize)) return fail(Errc::wrong_length);
        return parse_cookie(reader);
    }
    if (magic == kVouchMagic) {
        if (!exact(kVouchSize)) return fail(Errc::wrong_length);
        return parse_vouch(reader);
    }
    return fail(Errc::wrong_magic);
}

Result<MessageHeader> parse_message_header(Bytes packet) {
    if (packet.size() < kMessageOverhead) return fail(Errc::wrong_length);
    Reader reader(packet);
    if (to_array(reader.take<kMagicSize>()) != kMessageMagic) return fail(Errc::wrong_magic);
    return MessageHeader{{reader.integer<std::uint64_t>()}};
}

void serialise(const SealedHello& hello, MutableFixedBytes<kHelloSize> out) noexcept {
    Writer(out)
        .put(kHelloMagic)
        .put(hello.client_short.bytes())
        .put(number_bytes(hello.number))
        .put(hello.box.bytes);
}

void serialise(const SealedCookie& cookie, MutableFixedBytes<kCookiePacketSize> out) noexcept {
    Writer(out).put(kCookieMagic).put(cookie.nonce.bytes).put(cookie.box.bytes);
}

void serialise(const SealedVouch& vouch, MutableFixedBytes<kVouchSize> out) noexcept {
    Writer(out).put(kVouchMagic).put(vouch.cookie.bytes).put(number_bytes(vouch.number)).put(vouch.box.bytes);
}

void serialise(const MessageHeader& message, MutableFixedBytes<kMessageHeaderSize> out) noexcept {
    Writer(out).put(kMessageMagic).put(number_bytes(message.number));
}

ByteArray<kNumberSize> number_bytes(crypto::PacketNumber number) noexcept {
    return to_be(number.value);
}

}  // namespace curvegate::wire::curve_tun
