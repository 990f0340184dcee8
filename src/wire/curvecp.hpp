#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/nonce.hpp"
#include "wire/common.hpp"
#include "wire/curvecp_message.hpp"
#include "wire/errors.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <variant>

/// The packets of CurveCP (PROTOCOL 7). A UDP payload is one packet. What came off the wire has its length
/// and magic checked; boxes are opened elsewhere.
namespace curvegate::wire::curvecp {

// What PROTOCOL.md fixes.
inline constexpr std::size_t kMagicSize = 8;
inline constexpr std::size_t kHostExtensionSize = 16;
inline constexpr std::size_t kServerNameSize = 256;
inline constexpr std::size_t kAddressing = kMagicSize + 2 * kHostExtensionSize;  ///< first in every packet
inline constexpr std::size_t kHelloSize = kAddressing + 32 + 64 + kNumberSize + kHelloBoxSize;
inline constexpr std::size_t kCookiePacketSize = kAddressing + 16 + kCookieBoxSize;
inline constexpr std::size_t kInitiateHeader = kAddressing + 32 + kCookieSize + kNumberSize;
inline constexpr std::size_t kInitiateBody = kVouchBodySize + kServerNameSize;  ///< then the message
inline constexpr std::size_t kInitiateOverhead = kInitiateHeader + 16 + kInitiateBody;
inline constexpr std::size_t kClientMessageHeader = kAddressing + 32 + kNumberSize;
inline constexpr std::size_t kServerMessageHeader = kAddressing + kNumberSize;
inline constexpr std::size_t kClientOverhead = kClientMessageHeader + 16;
inline constexpr std::size_t kServerOverhead = kServerMessageHeader + 16;
inline constexpr std::size_t kLeastMessage =
    16;  ///< of the packet layer; a message proper has 48 bytes or more
inline constexpr std::size_t kMaxClientPacket = kClientOverhead + kMaxMessage;
inline constexpr std::size_t kMaxServerPacket = kServerOverhead + kMaxMessage;
inline constexpr std::size_t kMaxPacket = kMaxClientPacket;
static_assert(kHelloSize == 224 && kCookiePacketSize == 200 && kInitiateOverhead == 544);
static_assert(kClientOverhead == 96 && kServerOverhead == 64 && kMaxPacket == 1'184);
static_assert(kInitiateOverhead + kMaxInitiateMessage == kMaxPacket);

/// 16 bytes that a host may use to tell several servers or clients on one address apart; opaque to others.
struct HostExtensionTag;
using HostExtension = Strong<HostExtensionTag, kHostExtensionSize>;
struct Extensions {
    HostExtension server;
    HostExtension client;
    friend bool operator==(const Extensions&, const Extensions&) = default;
};

/// C' as it stands in an Initiate or Message: a key of a table, not checked to be a public key.
struct ClientShortTag;
using ClientShort = Strong<ClientShortTag, 32>;

/// A name as DNS labels: each a length byte and its bytes, a zero byte, zeros to 256 (PROTOCOL 7.4).
struct ServerNameTag;
using ServerName = Strong<ServerNameTag, kServerNameSize>;
/// Returns nullopt if it is no name: a label is empty or over 63 bytes, or the whole is too long.
[[nodiscard]] std::optional<ServerName> encode_server_name(std::string_view dotted);
/// "a.b.c" for the log. Returns nullopt if it is not a name in wire form.
[[nodiscard]] std::optional<std::string> decode_server_name(const ServerName& name);

struct SealedHello {
    Extensions extensions;
    crypto::PublicKey client_short;
    crypto::PacketNumber number;
    HelloBox box;
};
struct SealedCookie {
    Extensions extensions;
    crypto::LongTermNonce nonce;
    CookieBox box;
};
/// The clear part of an Initiate; its box is the rest of the packet, from kInitiateHeader on.
struct InitiateHeader {
    Extensions extensions;
    ClientShort client_short;
    Cookie cookie;
    crypto::PacketNumber number;
};
struct ClientMessageHeader {
    Extensions extensions;
    ClientShort client_short;
    crypto::PacketNumber number;
};
struct ServerMessageHeader {
    Extensions extensions;
    crypto::PacketNumber number;
};
using ToServer = std::variant<SealedHello, InitiateHeader, ClientMessageHeader>;
using ToClient = std::variant<SealedCookie, ServerMessageHeader>;

/// Errors: wrong_length, wrong_magic, crypto weak_key (of a Hello).
[[nodiscard]] Result<ToServer> parse_to_server(Bytes packet);
/// Errors: wrong_length, wrong_magic.
[[nodiscard]] Result<ToClient> parse_to_client(Bytes packet);

void serialise(const SealedHello& hello, MutableFixedBytes<kHelloSize> out) noexcept;
void serialise(const SealedCookie& cookie, MutableFixedBytes<kCookiePacketSize> out) noexcept;
void serialise(const InitiateHeader& initiate, MutableFixedBytes<kInitiateHeader> out) noexcept;
void serialise(const ClientMessageHeader& message, MutableFixedBytes<kClientMessageHeader> out) noexcept;
void serialise(const ServerMessageHeader& message, MutableFixedBytes<kServerMessageHeader> out) noexcept;

/// A packet number as CurveCP writes it: 8 bytes, little-endian.
[[nodiscard]] ByteArray<kNumberSize> number_bytes(crypto::PacketNumber number) noexcept;

}  // namespace curvegate::wire::curvecp
