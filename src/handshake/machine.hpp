#pragma once

#include "base/result.hpp"
#include "base/time.hpp"
#include "cookie/keeper.hpp"
#include "crypto/keys.hpp"
#include "handshake/errors.hpp"
#include "service/service.hpp"
#include "session/curve_tun.hpp"
#include "vault/protocol/protocol.hpp"
#include "wire/curve_tun.hpp"

#include <array>
#include <initializer_list>
#include <span>
#include <string_view>
#include <variant>

/// What the handshake machines hear and what they want done. A machine does no I/O and asks no clock: its
/// actor runs the actions, in order, all before the next event.
namespace curvegate::handshake {

// ---- events ----

namespace event {
/// Client: go, with fresh short-term keys.
struct Start {
    crypto::EphemeralKeyPair keys;
};
/// One whole packet came off the wire, parsed.
struct PacketArrived {
    wire::curve_tun::Packet packet;
};
/// What came cannot be a packet that is allowed here (length, magic, weak key).
struct PacketRefused {
    Error why;
};
/// The keeper sealed a cookie for the key pair whose public half is server_short.
struct CookieIssued {
    crypto::PublicKey server_short;
    wire::curve_tun::Cookie cookie;
};
/// The keeper opened the cookie that came back.
using CookieRedeemed = cookie::Redeemed;
/// The keeper could not do what it was asked.
struct CookieRefused {
    Error why;
};
/// What was to be done here cannot be: no locked memory for a key pair, no place in the budgets.
struct NotPossible {
    Error why;
};
struct HelloAnswered {
    vault::HelloAnswer answer;
};
/// The hello is for another of the server's keys.
struct OtherSlot {
    vault::KeySlot slot;
};
struct VouchMade {
    vault::Vouch vouch;
};
struct VouchIsGood {};
struct VaultRefused {
    vault::Status status;
};
/// The vault is gone, did not take the request, or did not answer it in time; `why` is for the log.
struct VaultLost {
    std::string why;
};
struct Authorised {};
/// The registry, or a limit, says no; `why` is for the log.
struct NotAuthorised {
    std::string why;
};
/// Client: the vouch has been written to the socket.
struct Written {};
/// The peer closed or reset the connection.
struct PeerClosed {};
/// next_deadline() has come.
struct DeadlineReached {};
/// Our side gives up.
struct Stop {};
}  // namespace event

using Event = std::variant<event::Start, event::PacketArrived, event::PacketRefused, event::CookieIssued,
                           event::CookieRedeemed, event::CookieRefused, event::NotPossible,
                           event::HelloAnswered, event::OtherSlot, event::VouchMade, event::VouchIsGood,
                           event::VaultRefused, event::VaultLost, event::Authorised, event::NotAuthorised,
                           event::Written, event::PeerClosed, event::DeadlineReached, event::Stop>;

/// An event without its content, for the tables: the same order as Event's alternatives, but for packets, of
/// which each kind is an event of its own.
enum class EventKind {
    start,
    hello,
    cookie,
    vouch,
    message,
    packet_refused,
    cookie_issued,
    cookie_redeemed,
    cookie_refused,
    not_possible,
    hello_answered,
    other_slot,
    vouch_made,
    vouch_is_good,
    vault_refused,
    vault_lost,
    authorised,
    not_authorised,
    written,
    peer_closed,
    deadline_reached,
    stop,
    cookie_claimed,  ///< CurveCP only
};
inline constexpr std::size_t kEventKinds = 22;  ///< of curve_tun
/// A visitor; CurveCP's adds its own packets to it.
struct KindOf {
    EventKind operator()(const event::Start&) const noexcept { return EventKind::start; }
    EventKind operator()(const event::PacketArrived& arrived) const noexcept;
    EventKind operator()(const event::PacketRefused&) const noexcept { return EventKind::packet_refused; }
    EventKind operator()(const event::CookieIssued&) const noexcept { return EventKind::cookie_issued; }
    EventKind operator()(const event::CookieRedeemed&) const noexcept { return EventKind::cookie_redeemed; }
    EventKind operator()(const event::CookieRefused&) const noexcept { return EventKind::cookie_refused; }
    EventKind operator()(const event::NotPossible&) const noexcept { return EventKind::not_possible; }
    EventKind operator()(const event::HelloAnswered&) const noexcept { return EventKind::hello_answered; }
    EventKind operator()(const event::OtherSlot&) const noexcept { return EventKind::other_slot; }
    EventKind operator()(const event::VouchMade&) const noexcept { return EventKind::vouch_made; }
    EventKind operator()(const event::VouchIsGood&) const noexcept { return EventKind::vouch_is_good; }
    EventKind operator()(const event::VaultRefused&) const noexcept { return EventKind::vault_refused; }
    EventKind operator()(const event::VaultLost&) const noexcept { return EventKind::vault_lost; }
    EventKind operator()(const event::Authorised&) const noexcept { return EventKind::authorised; }
    EventKind operator()(const event::NotAuthorised&) const noexcept { return EventKind::not_authorised; }
    EventKind operator()(const event::Written&) const noexcept { return EventKind::written; }
    EventKind operator()(const event::PeerClosed&) const noexcept { return EventKind::peer_closed; }
    EventKind operator()(const event::DeadlineReached&) const noexcept { return EventKind::deadline_reached; }
    EventKind operator()(const event::Stop&) const noexcept { return EventKind::stop; }
};
[[nodiscard]] EventKind kind_of(const Event& event) noexcept;
[[nodiscard]] std::string_view name_of(EventKind kind) noexcept;

// ---- actions ----

namespace action {
/// Write this packet, with its frame header.
struct Send {
    ByteArray<wire::curve_tun::kVouchSize> bytes;
    std::size_t size;
    [[nodiscard]] Bytes packet() const noexcept { return Bytes(bytes).first(size); }
};
/// Make a fresh key pair, have the keeper seal its secret for client_short, forget the pair: CookieIssued.
struct IssueCookie {
    crypto::PublicKey client_short;
    vault::KeySlot slot;  ///< what to bind it to
};
/// Have the keeper open it: CookieRedeemed.
struct RedeemCookie {
    wire::curve_tun::Cookie cookie;
    std::optional<vault::KeySlot> slot;  ///< what it must be bound to; nothing: the cookie tells
};
/// HelloAnswered, OtherSlot, VouchMade, VouchIsGood, VaultRefused or VaultLost.
struct AskVault {
    vault::RequestBody request;
};
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
/// Close the connection without a word to the peer.
struct Close {
    Error why;
};
}  // namespace action

using Action = std::variant<std::monostate, action::Send, action::IssueCookie, action::RedeemCookie,
                            action::AskVault, action::Authorise, action::Established, action::Close>;

/// What one event leads to: at most one action (the machines' steps are that small).
using Actions = std::array<Action, 1>;

// ---- tables ----

/// One line of a machine's table: in `from`, `on` leads to one of `to` (a machine may always close).
template <class State>
struct Transition {
    State from;
    EventKind on;
    State to;
    std::string_view section;  ///< of PROTOCOL.md
};

template <class State>
[[nodiscard]] constexpr const Transition<State>* find_transition(std::span<const Transition<State>> table,
                                                                 State from, EventKind on) noexcept {
    for (const auto& line : table) {
        if (line.from == from && line.on == on) return &line;
    }
    return nullptr;
}

using service::Timeouts;

// ---- shared by both machines ----

/// The answer to an event that the table does not list: a packet out of place is the peer's fault, anything
/// else ours.
[[nodiscard]] Error undeclared(EventKind kind);
/// What a refusal of the vault means for the connection.
[[nodiscard]] Error meaning_of(vault::Status status);
/// What the vault's reply, or its loss, is to a machine of either protocol.
template <class Event>
[[nodiscard]] Event event_of(Result<vault::ReplyBody>&& reply) {
    struct Meaning {
        Event operator()(vault::HelloAnswer& answer) const { return event::HelloAnswered{answer}; }
        Event operator()(vault::Vouch& vouch) const { return event::VouchMade{vouch}; }
        Event operator()(vault::VouchIsGood&) const { return event::VouchIsGood{}; }
        Event operator()(vault::Refused& refused) const { return event::VaultRefused{refused.status}; }
        Event operator()(vault::OtherSlot& other) const { return event::OtherSlot{other.slot}; }
        Event operator()(vault::PublicKeyIs&) const { return not_asked(); }  // no machine asks for it
        Event operator()(vault::KeyDropped&) const { return not_asked(); }   // no answer to anything
        static Event not_asked() { return event::VaultLost{"its answer is to another question"}; }
    };
    if (!reply) return event::VaultLost{reply.error().text()};
    return std::visit(Meaning{}, *reply);
}
/// A key or cookie that could not be made: out of locked memory, or the peer's fault as it stands.
[[nodiscard]] Error local_fault(const Error& why);

template <class Packet>
[[nodiscard]] action::Send send(const Packet& packet) {
    action::Send out{};
    if constexpr (std::is_same_v<Packet, wire::curve_tun::SealedHello>) {
        out.size = wire::curve_tun::kHelloSize;
        serialise(packet, MutableBytes(out.bytes).first<wire::curve_tun::kHelloSize>());
    } else if constexpr (std::is_same_v<Packet, wire::curve_tun::SealedCookie>) {
        out.size = wire::curve_tun::kCookiePacketSize;
        serialise(packet, MutableBytes(out.bytes).first<wire::curve_tun::kCookiePacketSize>());
    } else {
        static_assert(std::is_same_v<Packet, wire::curve_tun::SealedVouch>);
        out.size = wire::curve_tun::kVouchSize;
        serialise(packet, MutableBytes(out.bytes).first<wire::curve_tun::kVouchSize>());
    }
    return out;
}

}  // namespace curvegate::handshake
