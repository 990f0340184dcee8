#pragma once

#include "vault/protocol/protocol.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// The vault's control socket (PROTOCOL 6.7): `curvegate rotate` asks, one SOCK_SEQPACKET message a request,
/// one a reply, in order. Not for the daemon, which is never given this socket.
namespace curvegate::vault {

inline constexpr Byte kControlVersion = 2;
inline constexpr std::size_t kControlHeader = 8;
inline constexpr std::size_t kLongestControlPath = 1024;
inline constexpr std::size_t kLongestControlPassphrase = 1024;
inline constexpr std::size_t kLargestControlRequest =
    kControlHeader + kLongestControlPath + kLongestControlPassphrase;
inline constexpr std::size_t kLargestControlReply = 8192;
/// What a request brings along: a descriptor of the state file with each that changes something, and with
/// `start` those of the key file, of its nonce counter and of the counter's lock behind it.
inline constexpr std::size_t kMostControlDescriptors = 4;

enum class ControlVerb : Byte {
    status = 1,
    start = 2,        ///< a next key becomes live
    switch_over = 3,  ///< the next becomes the current, the current the previous; or back
    finish = 4,       ///< the previous is dropped
    compromised = 5,  ///< the old one is dropped at once, with its cookies and sessions
    cancel = 6,       ///< the next is dropped
};
[[nodiscard]] std::string_view name_of(ControlVerb verb);
[[nodiscard]] constexpr std::size_t descriptors_of(ControlVerb verb) {
    if (verb == ControlVerb::status) return 0;
    return verb == ControlVerb::start ? kMostControlDescriptors : 1;
}

/// Views into the message that it was parsed from.
struct ControlRequest {
    ControlVerb verb;
    std::string_view path;  ///< start: where the key file is, for the next start of the vault
    Bytes passphrase;       ///< start: of a sealed key file; may be empty
};

/// What a live server key is.
enum class KeyPart : Byte { current = 0, next = 1, previous = 2 };
[[nodiscard]] std::string_view name_of(KeyPart part);

struct ControlKey {
    static constexpr std::uint64_t kNever = ~std::uint64_t{0};
    KeySlot slot;
    KeyPart part;
    ByteArray<32> public_key;
    std::uint64_t clients;  ///< how many times a client has proved itself to it since the vault started
    std::uint64_t idle;     ///< seconds since the last time; kNever
    std::string path;       ///< empty: where the vault's `server-key` says
    friend bool operator==(const ControlKey&, const ControlKey&) = default;
};

struct ControlReply {
    ControlVerb verb;
    std::string refusal;           ///< empty: done; otherwise why not, for people
    std::vector<ControlKey> keys;  ///< the current one first
    std::string state_dir;         ///< where counters are; empty: beside each key file
    std::string state_file;        ///< who can write to this file may rotate
    friend bool operator==(const ControlReply&, const ControlReply&) = default;
};

/// Error: malformed (version, verb, lengths, reserved bytes, a path that is none).
[[nodiscard]] Result<ControlRequest> parse_control_request(Bytes message);
[[nodiscard]] Result<ControlReply> parse_control_reply(Bytes message);
/// Writes to `out`, of kLargestControlRequest bytes (locked memory, if there is a passphrase). Gives the part
/// that was written. Path and passphrase must not be longer than allowed.
[[nodiscard]] Bytes serialise(const ControlRequest& request, MutableBytes out);
[[nodiscard]] std::vector<Byte> serialise(const ControlReply& reply);

}  // namespace curvegate::vault
