#pragma once

#include "handshake/machine.hpp"
#include "session/curve_tun.hpp"
#include "wire/curve_tun.hpp"

/// What curve_tun's machines hear and want done, beside what all machines do (handshake/events.hpp,
/// actions.hpp).
namespace curvegate::handshake::curve_tun {

namespace event {
using namespace handshake::event;

using HelloArrived = Arrived<EventKind::hello, wire::curve_tun::SealedHello>;
using CookieArrived = Arrived<EventKind::cookie, wire::curve_tun::SealedCookie>;
using VouchArrived = Arrived<EventKind::vouch, wire::curve_tun::SealedVouch>;
/// No machine takes one: a session does.
using MessageArrived = Arrived<EventKind::message, wire::curve_tun::MessageHeader>;
}  // namespace event

using Event = std::variant<event::Start, event::HelloArrived, event::CookieArrived, event::VouchArrived,
                           event::MessageArrived, event::PacketRefused, event::CookieIssued,
                           event::CookieRedeemed, event::CookieRefused, event::NotPossible,
                           event::HelloAnswered, event::OtherSlot, event::VouchMade, event::VouchIsGood,
                           event::VaultRefused, event::VaultLost, event::Authorised, event::NotAuthorised,
                           event::Written, event::PeerClosed, event::DeadlineReached, event::Stop>;
/// One whole packet came off the wire, parsed.
[[nodiscard]] Event arrived(const wire::curve_tun::Packet& packet);

namespace action {
using namespace handshake::action;

/// With its frame header.
using Send = SendUpTo<wire::curve_tun::kVouchSize>;
/// Ask the registry and the session limits: Authorised or NotAuthorised.
struct Authorise {
    crypto::PublicKey client;
};
/// The handshake is over; the session is the actor's from here on.
struct Established {
    session::curve_tun::Session session;
    crypto::PublicKey peer;                        ///< long-term
    vault::KeySlot slot = vault::KeySlot::server;  ///< server: which of its keys the peer knows it by
};
}  // namespace action

using Action = std::variant<std::monostate, action::Send, action::IssueCookie, action::RedeemCookie,
                            action::AskVault, action::Authorise, action::Established, action::Close>;
/// What one event leads to: at most one action (the machines' steps are that small).
using Actions = std::array<Action, 1>;

[[nodiscard]] action::Send send(const wire::curve_tun::SealedHello& hello) noexcept;
[[nodiscard]] action::Send send(const wire::curve_tun::SealedCookie& cookie) noexcept;
[[nodiscard]] action::Send send(const wire::curve_tun::SealedVouch& vouch) noexcept;

}  // namespace curvegate::handshake::curve_tun
