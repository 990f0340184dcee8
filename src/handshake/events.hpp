#pragma once

#include "base/result.hpp"
#include "cookie/keeper.hpp"
#include "crypto/keys.hpp"
#include "handshake/errors.hpp"
#include "vault/protocol/protocol.hpp"
#include "wire/common.hpp"

#include <array>
#include <string>
#include <string_view>
#include <variant>

/// What the machines of a handshake hear, whatever their wire. Packets are each wire's own:
/// handshake/curve_tun/machine.hpp, handshake/curvecp/machine.hpp.
namespace curvegate::handshake {

/// An event without its content, for the tables.
enum class EventKind {
    start,
    hello,
    cookie,
    vouch,    ///< CurveCP: an Initiate
    message,  ///< CurveCP's client: the first that opened
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
    cookie_claimed,
};
inline constexpr std::size_t kEventKinds = 23;
[[nodiscard]] std::string_view name_of(EventKind kind) noexcept;
/// Did it come off the wire? Anybody may have sent it.
[[nodiscard]] constexpr bool is_packet(EventKind kind) noexcept {
    return kind >= EventKind::hello && kind <= EventKind::message;
}

namespace event {
/// Client: go, with fresh short-term keys.
struct Start {
    static constexpr EventKind kKind = EventKind::start;
    crypto::EphemeralKeyPair keys;
};
/// A whole packet came off the wire, parsed.
template <EventKind kind, class Packet>
struct Arrived {
    static constexpr EventKind kKind = kind;
    Packet packet;
};
/// What came cannot be a packet that is allowed here (length, magic, weak key).
struct PacketRefused {
    static constexpr EventKind kKind = EventKind::packet_refused;
    Error why;
};
/// The keeper sealed a cookie for the key pair whose public half is server_short.
struct CookieIssued {
    static constexpr EventKind kKind = EventKind::cookie_issued;
    crypto::PublicKey server_short;
    wire::Cookie cookie;
};
/// The keeper opened the cookie that came back.
struct CookieRedeemed : cookie::Redeemed {
    static constexpr EventKind kKind = EventKind::cookie_redeemed;
};
/// The keeper took the cookie: it makes this session and no other.
struct CookieClaimed {
    static constexpr EventKind kKind = EventKind::cookie_claimed;
};
/// The keeper could not do what it was asked.
struct CookieRefused {
    static constexpr EventKind kKind = EventKind::cookie_refused;
    Error why;
};
/// What was to be done here cannot be: no locked memory for a key pair, no place in the budgets.
struct NotPossible {
    static constexpr EventKind kKind = EventKind::not_possible;
    Error why;
};
struct HelloAnswered {
    static constexpr EventKind kKind = EventKind::hello_answered;
    vault::HelloAnswer answer;
};
/// The hello is for another of the server's keys.
struct OtherSlot {
    static constexpr EventKind kKind = EventKind::other_slot;
    vault::KeySlot slot;
};
struct VouchMade {
    static constexpr EventKind kKind = EventKind::vouch_made;
    vault::Vouch vouch;
};
struct VouchIsGood {
    static constexpr EventKind kKind = EventKind::vouch_is_good;
};
struct VaultRefused {
    static constexpr EventKind kKind = EventKind::vault_refused;
    vault::Status status;
};
/// The vault is gone, did not take the request, or did not answer it in time; `why` is for the log.
struct VaultLost {
    static constexpr EventKind kKind = EventKind::vault_lost;
    std::string why;
};
struct Authorised {
    static constexpr EventKind kKind = EventKind::authorised;
};
/// The registry, or a limit, says no; `why` is for the log.
struct NotAuthorised {
    static constexpr EventKind kKind = EventKind::not_authorised;
    std::string why;
};
/// Over a connection, client: the vouch has been written to the socket.
struct Written {
    static constexpr EventKind kKind = EventKind::written;
};
/// The peer closed or reset the connection.
struct PeerClosed {
    static constexpr EventKind kKind = EventKind::peer_closed;
};
/// next_deadline() has come.
struct DeadlineReached {
    static constexpr EventKind kKind = EventKind::deadline_reached;
};
/// Our side gives up.
struct Stop {
    static constexpr EventKind kKind = EventKind::stop;
};
}  // namespace event

/// Of a wire's variant of events.
template <class... Alternatives>
[[nodiscard]] constexpr EventKind kind_of(const std::variant<Alternatives...>& event) noexcept {
    constexpr std::array kKinds = {Alternatives::kKind...};
    return kKinds[event.index()];
}

/// The event of a wire that the vault's reply, or its loss, is.
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

// ---- what they mean where they end a handshake ----

/// The answer to an event that the tables do not list: a packet out of place is the peer's fault, anything
/// else ours.
[[nodiscard]] Error undeclared(EventKind kind);
/// What a refusal of the vault means for the handshake.
[[nodiscard]] Error meaning_of(vault::Status status);
/// A key or cookie that could not be made: out of locked memory, or the peer's fault as it stands.
[[nodiscard]] Error local_fault(const Error& why);

}  // namespace curvegate::handshake
