#pragma once

#include "handshake/machine.hpp"
#include "session/curvecp.hpp"
#include "wire/curvecp.hpp"

/// What CurveCP's machines hear and want done, beside what they share with curve_tun's
/// (handshake/machine.hpp).
namespace curvegate::handshake::curvecp {

namespace event {
using namespace handshake::event;

/// Client: go, or go afresh, with fresh short-term keys; `first` is the number of the first packet: anywhere
/// below 2^48.
struct Start {
    crypto::EphemeralKeyPair keys;
    crypto::PacketNumber first;
};
struct HelloArrived {
    wire::curvecp::SealedHello hello;
};
/// `packet` is the whole of it, and gone after handle().
struct InitiateArrived {
    wire::curvecp::InitiateHeader header;
    Bytes packet;
};
struct CookieArrived {
    wire::curvecp::SealedCookie cookie;
};
/// Client: the session opened a Message of the server, the first one.
struct Confirmed {};
/// The keeper took the cookie: it makes this session and no other.
struct CookieClaimed {};
}  // namespace event

using Event = std::variant<event::Start, event::HelloArrived, event::InitiateArrived, event::CookieArrived,
                           event::Confirmed, event::CookieIssued, event::CookieRedeemed, event::CookieRefused,
                           event::NotPossible, event::CookieClaimed, event::HelloAnswered, event::OtherSlot,
                           event::VouchMade, event::VouchIsGood, event::VaultRefused, event::VaultLost,
                           event::Authorised, event::NotAuthorised, event::DeadlineReached, event::Stop>;
[[nodiscard]] EventKind kind_of(const Event& event) noexcept;
/// Every kind that a machine of CurveCP may hear, for the tables' tests.
inline constexpr std::array kEvents = {
    EventKind::start,
    EventKind::hello,
    EventKind::cookie,
    EventKind::vouch,
    EventKind::message,
    EventKind::cookie_issued,
    EventKind::cookie_redeemed,
    EventKind::cookie_refused,
    EventKind::not_possible,
    EventKind::hello_answered,
    EventKind::other_slot,
    EventKind::vouch_made,
    EventKind::vouch_is_good,
    EventKind::vault_refused,
    EventKind::vault_lost,
    EventKind::authorised,
    EventKind::not_authorised,
    EventKind::deadline_reached,
    EventKind::stop,
    EventKind::cookie_claimed,
};

namespace action {
using handshake::action::AskVault;
using handshake::action::Close;
using handshake::action::IssueCookie;
using handshake::action::RedeemCookie;

/// Send this packet to where the other end is.
struct Send {
    ByteArray<wire::curvecp::kHelloSize> bytes;
    std::size_t size;
    [[nodiscard]] Bytes packet() const noexcept { return Bytes(bytes).first(size); }
};
/// Ask for the service of that name, the registry and the session limits: Authorised or NotAuthorised.
struct Authorise {
    crypto::PublicKey client;
    wire::curvecp::ServerName name;
};
/// Have the keeper take the cookie: CookieClaimed or CookieRefused.
struct ClaimCookie {
    cookie::Ticket ticket;
};
/// Server: the handshake is over. The client's first message came along.
struct Established {
    session::curvecp::Session session;
    crypto::PublicKey peer;  ///< long-term
    ByteArray<wire::curvecp::kMaxInitiateMessage> message;
    std::size_t message_size;
    vault::KeySlot slot;  ///< which of the server's keys the peer knows it by
};
/// Client: messages may go, in Initiates until the server's first Message (Confirmed).
struct Vouched {
    session::curvecp::Session session;
    session::curvecp::Introduction introduction;
};
/// Client: no answer to any Initiate. If no byte of the stream has left: Start again.
struct AskAfresh {};
/// The packet is not for this machine, whose state stays as it is. `why` is for the counters.
struct Drop {
    Error why;
};
}  // namespace action

using Action = std::variant<std::monostate, action::Send, action::IssueCookie, action::RedeemCookie,
                            action::AskVault, action::Authorise, action::ClaimCookie, action::Established,
                            action::Vouched, action::AskAfresh, action::Drop, action::Close>;
/// At most one action an event.
using Actions = std::array<Action, 1>;

/// The closes that every machine knows, whatever its state: refusals, a lost vault, stop. Returns nullopt
/// for any other event.
[[nodiscard]] std::optional<Error> reason_to_close(const Event& event);

}  // namespace curvegate::handshake::curvecp
