#pragma once

#include "base/result.hpp"

#include <string_view>

namespace curvegate::handshake {

/// Why a handshake ended. Response: to the peer all of them look alike, closed (tcp) or silence (udp). A
/// server end says why by handshake_reject (udp: packet_drop before the cookie has opened). A client end
/// tries the next key or target after a peer fault; after the last, or a fault of ours, it says
/// connect_failed and resets the local connection.
enum class Errc {
    unexpected_packet = 1,  ///< peer fault: a packet that its place does not allow
    wrong_number,           ///< peer fault: hello not 0, or vouch not 1
    cookie_not_ours,        ///< peer fault: not the cookie issued on this connection, or its second use
    cookie_used,            ///< peer fault (udp): a replay; the cookie made a session before
    cookie_mismatch,        ///< peer fault: the cookie holds another client's short-term key
    vouch_does_not_open,    ///< peer fault: the outer box of the vouch
    cookie_does_not_open,   ///< peer fault (client side): wrong server key, or not a curve_tun server
    hello_refused,          ///< peer fault: the vault could not open the hello
    vouch_refused,          ///< peer fault: the vault found the vouch to be wrong
    not_authorised,         ///< registry, limit or audit say no to the peer; the detail says why
    peer_closed,            ///< peer fault: the other side closed before the handshake was over
    hello_timeout,          ///< peer fault: no hello in time
    vouch_timeout,          ///< peer fault: no vouch in time
    connect_timeout,        ///< peer fault (client side): no cookie in time
    vault_timeout,          ///< ours: the vault did not answer in time
    vault_unavailable,      ///< ours: no vault, or it refused for a reason of its own; the detail says which
    no_secret_memory,       ///< ours: locked memory is used up
    stopped,                ///< our side ended it
    bug,                    ///< an event that the machine's table does not list: a defect of this program
};

[[nodiscard]] constexpr std::string_view layer_name(Errc) {
    return "handshake";
}
[[nodiscard]] constexpr std::string_view describe(Errc code) {
    switch (code) {
        case Errc::unexpected_packet: return "packet is not allowed here";
        case Errc::wrong_number: return "hello or vouch has the wrong number";
        case Errc::cookie_not_ours: return "cookie was not issued on this connection";
        case Errc::cookie_used: return "cookie was used before: a replay";
        case Errc::cookie_mismatch: return "cookie belongs to another short-term key";
        case Errc::vouch_does_not_open: return "vouch packet does not open";
        case Errc::cookie_does_not_open: return "cookie packet does not open";
        case Errc::hello_refused: return "hello is not for this server's key";
        case Errc::vouch_refused: return "vouch is wrong";
        case Errc::not_authorised: return "client is not authorised";
        case Errc::peer_closed: return "peer closed during the handshake";
        case Errc::hello_timeout: return "no hello in time";
        case Errc::vouch_timeout: return "no vouch in time";
        case Errc::connect_timeout: return "no answer in time";
        case Errc::vault_timeout: return "vault did not answer in time";
        case Errc::vault_unavailable: return "vault cannot serve";
        case Errc::no_secret_memory: return "no locked memory left";
        case Errc::stopped: return "stopped";
        case Errc::bug: return "internal error: event out of place";
    }
    return "unknown";
}

/// Ours, or our end: whatever the peer is, another key or another target would end the same way.
[[nodiscard]] constexpr bool is_ours(Errc code) {
    switch (code) {
        case Errc::vault_timeout:
        case Errc::vault_unavailable:
        case Errc::no_secret_memory:
        case Errc::stopped:
        case Errc::bug: return true;
        case Errc::unexpected_packet:
        case Errc::wrong_number:
        case Errc::cookie_not_ours:
        case Errc::cookie_used:
        case Errc::cookie_mismatch:
        case Errc::vouch_does_not_open:
        case Errc::cookie_does_not_open:
        case Errc::hello_refused:
        case Errc::vouch_refused:
        case Errc::not_authorised:
        case Errc::peer_closed:
        case Errc::hello_timeout:
        case Errc::vouch_timeout:
        case Errc::connect_timeout: return false;
    }
    return true;
}
/// The same of any layer's error: only a handshake knows.
[[nodiscard]] inline bool is_ours(const Error& why) {
    for (int code = 1; code <= static_cast<int>(Errc::bug); ++code) {
        if (why.is(static_cast<Errc>(code))) return is_ours(static_cast<Errc>(code));
    }
    return false;
}

}  // namespace curvegate::handshake
