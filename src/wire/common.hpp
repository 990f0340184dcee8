#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/nonce.hpp"

/// What curve_tun and CurveCP have in common: the boxes of the handshake and what is in them
/// (PROTOCOL 4.2, 7.2).
namespace curvegate::wire {

inline constexpr std::size_t kNumberSize = 8;
inline constexpr std::size_t kCookieSize = 96;
inline constexpr std::size_t kVouchBoxSize = 48;
inline constexpr std::size_t kHelloPlainSize = 64;
inline constexpr std::size_t kHelloBoxSize = kHelloPlainSize + 16;
inline constexpr std::size_t kCookieBodySize = 32 + kCookieSize;
inline constexpr std::size_t kCookieBoxSize = kCookieBodySize + 16;
inline constexpr std::size_t kVouchBodySize = 32 + 16 + kVouchBoxSize;

/// A cookie K: for its issuer nonce and secret box, for everybody else 96 bytes to give back unread.
struct CookieTag;
using Cookie = Strong<CookieTag, kCookieSize>;
/// A vouch V: Box[EC](Cs -> S).
struct VouchBoxTag;
using VouchBox = Strong<VouchBoxTag, kVouchBoxSize>;
struct HelloBoxTag;
using HelloBox = Strong<HelloBoxTag, kHelloBoxSize>;
struct CookieBoxTag;
using CookieBox = Strong<CookieBoxTag, kCookieBoxSize>;

/// In the cookie packet's box.
struct CookieBody {
    crypto::PublicKey server_short;
    Cookie cookie;
};
/// In the vouch packet's box (curve_tun), and first in the Initiate's (CurveCP).
struct VouchBody {
    crypto::PublicKey client;
    crypto::LongTermNonce nonce;
    VouchBox vouch;
};

/// Error: crypto weak_key.
[[nodiscard]] Result<CookieBody> parse_cookie_body(FixedBytes<kCookieBodySize> plain);
/// Error: crypto weak_key.
[[nodiscard]] Result<VouchBody> parse_vouch_body(FixedBytes<kVouchBodySize> plain);
void serialise(const CookieBody& body, MutableFixedBytes<kCookieBodySize> out) noexcept;
void serialise(const VouchBody& body, MutableFixedBytes<kVouchBodySize> out) noexcept;

}  // namespace curvegate::wire
