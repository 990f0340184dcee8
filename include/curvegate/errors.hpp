#pragma once

#include <boost/system/error_code.hpp>

namespace curvegate {

/// What the calls of this library complete with, beside boost::asio::error::operation_aborted for a call that
/// was cancelled, and boost::asio::error::timed_out for a receive whose time is over. From no_pin to
/// out_of_memory they are async_connect's: there is no channel, and it may be tried again.
enum class ChannelError {
    closed = 1,  ///< the channel is closed, by us, by the peer, or by an attacker on the way: version 1 has
                 ///< no authenticated end. A server that refused us shows so on the first receive.
    message_too_long,   ///< over kMaxMessageSize; nothing was sent and the channel goes on
    bad_message,        ///< what came does not open or is out of order; the channel is closed
    numbers_exhausted,  ///< 2^64-3 messages were sent in one direction; the channel is closed
    no_pin,             ///< our fault: known_hosts has no valid key for the peer's name
    wrong_key,          ///< wrong key for this peer, or not a curve_tun server; curvecp: no answer at all
    cannot_connect,     ///< the name does not resolve, or no address takes the connection
    timed_out,          ///< no connection in time
    vault_unavailable,  ///< our fault: the vault is gone or cannot serve
    out_of_memory,      ///< our lack: no locked memory left for secrets
    too_many_sends,  ///< kMaxWaitingSends or kMaxWaitingBytes wait already; nothing was sent and the channel
                     ///< goes on
};

[[nodiscard]] const boost::system::error_category& channel_category() noexcept;
[[nodiscard]] inline boost::system::error_code make_error_code(ChannelError code) noexcept {
    return {static_cast<int>(code), channel_category()};
}

}  // namespace curvegate

template <>
struct boost::system::is_error_code_enum<curvegate::ChannelError> : std::true_type {};
