#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/nonce.hpp"
#include "wire/common.hpp"
#include "wire/errors.hpp"

#include <variant>

/// The packets of curve_tun version 1 (PROTOCOL 4). `Sealed...` is what came off the wire, lengths and
/// public keys checked; `...Body` is what its box held.
namespace curvegate::wire::curve_tun {

// What PROTOCOL.md fixes.
inline constexpr std::size_t kFrameHeaderSize = 2;
inline constexpr std::size_t kMaxPacketSize = 65'535;
inline constexpr std::size_t kMagicSize = 8;
using wire::kCookieBodySize;
using wire::kCookieBoxSize;
using wire::kCookieSize;
using wire::kHelloBoxSize;
using wire::kHelloPlainSize;
using wire::kNumberSize;
using wire::kVouchBodySize;
using wire::kVouchBoxSize;
inline constexpr std::size_t kInitiateBoxSize = kVouchBodySize + 16;
inline constexpr std::size_t kHelloSize = kMagicSize + 32 + kNumberSize + kHelloBoxSize;
inline constexpr std::size_t kCookiePacketSize = kMagicSize + 16 + kCookieBoxSize;
inline constexpr std::size_t kVouchSize = kMagicSize + kCookieSize + kNumberSize + kInitiateBoxSize;
inline constexpr std::size_t kMessageHeaderSize = kMagicSize + kNumberSize;
inline constexpr std::size_t kMessageOverhead = kMessageHeaderSize + 16;
inline constexpr std::size_t kMaxMessageSize = kMaxPacketSize - kMessageOverhead;
static_assert(kHelloSize == 128 && kCookiePacketSize == 168 && kVouchSize == 224);
static_assert(kMessageOverhead == 32 && kMaxMessageSize == 65'503);

inline constexpr crypto::PacketNumber kHelloNumber{0};
inline constexpr crypto::PacketNumber kVouchNumber{1};
inline constexpr crypto::PacketNumber kFirstMessageNumber{2};

using wire::Cookie;
using wire::CookieBody;
using wire::CookieBox;
using wire::HelloBox;
using wire::VouchBody;
using wire::VouchBox;
struct InitiateBoxTag;
using InitiateBox = Strong<InitiateBoxTag, kInitiateBoxSize>;

struct SealedHello {
    crypto::PublicKey client_short;
    crypto::PacketNumber number;
    HelloBox box;
};
struct SealedCookie {
    crypto::LongTermNonce nonce;
    CookieBox box;
};
struct SealedVouch {
    Cookie cookie;
    crypto::PacketNumber number;
    InitiateBox box;
};
/// A message is opened in place by session::curve_tun; here it is only recognised.
struct MessageHeader {
    crypto::PacketNumber number;
};
using Packet = std::variant<SealedHello, SealedCookie, SealedVouch, MessageHeader>;

/// The length of the packet that follows.
[[nodiscard]] std::size_t parse_frame_header(FixedBytes<kFrameHeaderSize> header) noexcept;
/// Writes the length of a packet of at most kMaxPacketSize bytes.
void serialise_frame_header(std::size_t packet_size, MutableFixedBytes<kFrameHeaderSize> out) noexcept;

/// One whole packet without its frame header. Errors: wrong_magic, wrong_length, crypto weak_key.
[[nodiscard]] Result<Packet> parse_packet(Bytes packet);
/// Error: wrong_magic, wrong_length (shorter than an empty message).
[[nodiscard]] Result<MessageHeader> parse_message_header(Bytes packet);
using wire::parse_cookie_body;
using wire::parse_vouch_body;

void serialise(const SealedHello& hello, MutableFixedBytes<kHelloSize> out) noexcept;
void serialise(const SealedCookie& cookie, MutableFixedBytes<kCookiePacketSize> out) noexcept;
void serialise(const SealedVouch& vouch, MutableFixedBytes<kVouchSize> out) noexcept;
void serialise(const MessageHeader& message, MutableFixedBytes<kMessageHeaderSize> out) noexcept;
using wire::serialise;

/// A packet number as curve_tun writes it: 8 bytes, big-endian.
[[nodiscard]] ByteArray<kNumberSize> number_bytes(crypto::PacketNumber number) noexcept;

}  // namespace curvegate::wire::curve_tun
