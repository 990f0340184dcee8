#pragma once

#include "handshake/machine.hpp"
#include "session/curvecp.hpp"
#include "wire/curvecp.hpp"

/// What CurveCP's machines hear and want done, beside what all machines do (handshake/events.hpp,
/// actions.hpp).
namespace curvegate::handshake::curvecp {

namespace event {
using namespace handshake::event;

/// Or go afresh.
struct Start : handshake::event::Start {
    Start(crypto::EphemeralKeyPair fresh, crypto::PacketNumber number)
        : handshake::event::Start{std::move(fresh)}, first(number) {}

    crypto::PacketNumber first;  ///< of the first packet: session::curvecp::first_number()
};
using HelloArrived = Arrived<EventKind::hello, wire::curvecp::SealedHello>;
using CookieArrived = Arrived<EventKind::cookie, wire::curvecp::SealedCookie>;
/// `packet` is the whole of it, and gone after handle().
struct InitiateArrived {
    static constexpr EventKind kKind = EventKind::vouch;
    wire::curvecp::InitiateHeader header;
    Bytes packet;
};
/// Client: the session opened a Message of the server, the first one.
struct Confirmed {
    static constexpr EventKind kKind = EventKind::message;
};
}  // namespace event

using Event = std::variant<event::Start, event::HelloArrived, event::InitiateArrived, event::CookieArrived,
                           event::Confirmed, event::CookieIssued, event::CookieRedeemed, event::CookieRefused,
                           event::NotPossible, event::CookieClaimed, event::HelloAnswered, event::OtherSlot,
                           event::VouchMade, event::VouchIsGood, event::VaultRefused, event::VaultLost,
                           event::Authorised, event::NotAuthorised, event::DeadlineReached, event::Stop>;

namespace action {
using namespace handshake::action;

using Send = SendUpTo<wire::curvecp::kHelloSize>;
/// Ask for the service of that name, the registry and the session limits: Authorised or NotAuthorised.
struct Authorise {
    crypto::PublicKey client;
    wire::curvecp::ServerName name;
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
}  // namespace action

using Action = std::variant<std::monostate, action::Send, action::IssueCookie, action::RedeemCookie,
                            action::AskVault, action::Authorise, action::ClaimCookie, action::Established,
                            action::Vouched, action::AskAfresh, action::Drop, action::Close>;
/// At most one action an event.
using Actions = std::array<Action, 1>;

}  // namespace curvegate::handshake::curvecp
