#pragma once

#include "base/result.hpp"

#include <string>
#include <string_view>

/// Why nothing was reached. No Asio here: who only looks names up needs no event loop.
namespace curvegate::io {

/// Response: connect_failed says why. A client end resets the local connection, a server end ends the tunnel.
/// Of several targets the next one is tried first, but not after own_lack and stopped, which are ours.
enum class DialErrc {
    name_unknown = 1,  ///< the host has no address; the detail has the host
    refused,           ///< no address took the connection; the detail has the target and the last reason
    timeout,           ///< no connection within connect-timeout
    no_pin,            ///< known_hosts holds no usable key for the peer: named before anything is dialled
    no_cookie,  ///< udp: no answer to any Hello; a wrong key, a wrong port and a lost network look alike
    wrong_key,  ///< version 1 cannot tell these apart: wrong key, or not a curve_tun server
    no_target,  ///< several targets, and none answers; the detail has each and its reason
    name_unanswered,  ///< no name server answers, and no earlier answer is known; the detail has the host
    names_busy,       ///< more names than may wait are being looked up; the detail has the host
    no_interface,     ///< the interface of a link-local address is not there; the detail has the host
    own_lack,         ///< descriptors or memory of our own: nothing is said of the target
    stopped,          ///< it was cancelled
};
[[nodiscard]] constexpr std::string_view layer_name(DialErrc) {
    return "dial";
}
[[nodiscard]] constexpr std::string_view describe(DialErrc code) {
    switch (code) {
        case DialErrc::name_unknown: return "name does not resolve";
        case DialErrc::refused: return "cannot connect";
        case DialErrc::timeout: return "no connection in time";
        case DialErrc::no_pin:
            return "known_hosts has no valid key for this peer (curvegate peers add NAME KEY)";
        case DialErrc::no_cookie:
            return "no answer: wrong key for this peer, no CurveCP server there, or no way to it";
        case DialErrc::wrong_key: return "wrong key for this peer, or not a curve_tun server";
        case DialErrc::no_target: return "no target answers";
        case DialErrc::name_unanswered: return "the name servers do not answer";
        case DialErrc::names_busy: return "too many names are being looked up at once; try again soon";
        case DialErrc::no_interface: return "this machine has no network interface of that name";
        case DialErrc::own_lack:
            return "our own lack of descriptors or memory, no fault of the target (raise LimitNOFILE= or "
                   "ulimit -n)";
        case DialErrc::stopped: return "stopped";
    }
    return "unknown";
}

/// Does this errno tell of want of descriptors or memory on this machine?
[[nodiscard]] bool is_own_lack(int code) noexcept;
/// A system call failed on the way to `where`: own_lack or refused, with the reason.
[[nodiscard]] std::unexpected<Error> fail_dial(const std::string& where, int code);

}  // namespace curvegate::io
