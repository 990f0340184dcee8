#pragma once

#include "base/bytes.hpp"
#include "base/ip.hpp"

#include <string>
#include <variant>
#include <vector>

/// What parent and front tell each other: one SOCK_SEQPACKET message each. Both are the same program, yet
/// the parent parses as if the front were hostile: a front that was taken over speaks here.
namespace curvegate::daemon {

namespace to_front {
/// A connection to the vault for a worker; the descriptor comes along.
struct VaultConnection {
    std::uint16_t worker;
};
struct Drain {};
struct LogStatus {};
struct Resolved {
    std::uint32_t id;
    std::vector<IpAddress> addresses;  ///< none: the name does not resolve now
};
}  // namespace to_front
using ToFront =
    std::variant<to_front::VaultConnection, to_front::Drain, to_front::LogStatus, to_front::Resolved>;

namespace to_parent {
struct Ready {};
/// The worker's vault connection ended (of use where the vault is a unit of its own).
struct VaultLost {
    std::uint16_t worker;
};
struct Resolve {
    std::uint32_t id;
    std::string host;
};
}  // namespace to_parent
using ToParent = std::variant<to_parent::Ready, to_parent::VaultLost, to_parent::Resolve>;

inline constexpr std::size_t kMaxAddresses = 16;
inline constexpr std::size_t kMaxHost = 253;
inline constexpr std::size_t kMaxChannelMessage = 512;

[[nodiscard]] std::vector<Byte> serialise(const ToFront& message);
[[nodiscard]] std::vector<Byte> serialise(const ToParent& message);
/// Nothing: not a message of this channel.
[[nodiscard]] std::optional<ToFront> parse_to_front(Bytes message);
[[nodiscard]] std::optional<ToParent> parse_to_parent(Bytes message);

}  // namespace curvegate::daemon
