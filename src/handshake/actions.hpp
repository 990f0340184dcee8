#pragma once

#include "handshake/events.hpp"

#include <optional>

/// What the machines of a handshake want done, whatever their wire. To authorise a client and to hand a
/// session over are each wire's own.
namespace curvegate::handshake::action {

/// Send this packet, of at most so many bytes, to where the other end is.
template <std::size_t kMost>
struct SendUpTo {
    ByteArray<kMost> bytes;
    std::size_t size;
    [[nodiscard]] Bytes packet() const noexcept { return Bytes(bytes).first(size); }
};
/// Make a fresh key pair, have the keeper seal its secret for client_short, forget the pair: CookieIssued,
/// CookieRefused or NotPossible.
struct IssueCookie {
    crypto::PublicKey client_short;
    vault::KeySlot slot;  ///< what to bind it to
};
/// Have the keeper open it: CookieRedeemed or CookieRefused.
struct RedeemCookie {
    wire::Cookie cookie;
    std::optional<vault::KeySlot> slot;  ///< what it must be bound to; nullopt: the cookie tells
};
/// Have the keeper take the cookie: CookieClaimed or CookieRefused.
struct ClaimCookie {
    cookie::Ticket ticket;
};
/// HelloAnswered, OtherSlot, VouchMade, VouchIsGood, VaultRefused or VaultLost.
struct AskVault {
    vault::RequestBody request;
};
/// The packet is not for this machine, whose state stays as it is. `why` is for the counters.
struct Drop {
    Error why;
};
/// The handshake came to nothing. The peer is told nothing.
struct Close {
    Error why;
};

}  // namespace curvegate::handshake::action
