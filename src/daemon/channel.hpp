#pragma once

#include "base/bytes.hpp"
#include "base/scoped_ip.hpp"

#include <string>
#include <variant>
#include <vector>

/// What parent and front tell each other: one SOCK_SEQPACKET message each. Both are the same program, yet
/// the parent parses as if the front were hostile: a front that was taken over speaks here.
namespace curvegate::daemon {

/// What became of a name look-up.
enum class NameOutcome : std::uint8_t {
    found,
    unknown,    ///< the name has no address
    no_answer,  ///< no name server said anything in time
    busy,       ///< too many look-ups are under way
    own_lack,   ///< this machine had no memory, descriptor or process left for it
};
struct NameAnswer {
    NameOutcome outcome = NameOutcome::unknown;
    std::vector<ScopedIp> addresses;  ///< none but with `found`
};

namespace to_front {
/// A connection to the vault for a worker; the descriptor comes along.
struct VaultConnection {
    std::uint16_t worker;
};
struct Drain {};
struct LogStatus {};
struct Resolved {
    std::uint32_t id;
    NameAnswer answer;
};
/// A new configuration comes: the texts of its files (config::pack), in a memory file that comes along; then
/// the text of known_hosts.
struct NewConfig {};
struct NewKnownHosts {};
/// A socket of a door that the new configuration has and the old one had not: its place in doors_of(), and a
/// descriptor.
struct DoorSocket {
    std::uint16_t door;
};
/// All has come: it is in force. `id` is that of the request, 0: a signal's.
struct Apply {
    std::uint32_t id;
    std::uint32_t generation;
    std::uint32_t changes;  ///< lines of difference()
};
/// A line of the answer to a request, and its end.
struct Told {
    std::uint32_t id;
    std::string line;
};
struct Done {
    std::uint32_t id;
    std::uint16_t status;  ///< exit status of the command
};
/// The log file has been opened again; its descriptor comes along.
struct NewLog {};
/// Answer with Alive: the service manager asks whether the event loop turns.
struct LookAlive {};
/// The audit file has been opened, again or for the first time: its descriptor comes along. Or there is none
/// any more.
struct NewAudit {
    bool open;
};
/// The parent has decided something that belongs into the audit. `id` is the request's, 0: a signal's.
struct Decided {
    enum class What : std::uint8_t { reload_failed, log_reopened, drain };
    std::uint32_t id;
    What what;
    std::string text;  ///< a longer one than kMaxLine is cut
};
}  // namespace to_front
using ToFront = std::variant<to_front::VaultConnection, to_front::Drain, to_front::LogStatus,
                             to_front::Resolved, to_front::NewConfig, to_front::NewKnownHosts,
                             to_front::DoorSocket, to_front::Apply, to_front::Told, to_front::Done,
                             to_front::NewLog, to_front::LookAlive, to_front::NewAudit, to_front::Decided>;

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
/// Requests of the control socket, that the parent alone can fulfil. Never a path.
struct Reload {
    std::uint32_t id;
};
struct Revoke {
    std::uint32_t id;
    std::vector<ByteArray<32>> keys;
};
struct Drain {};
struct Alive {};
/// The configuration with that generation is in force.
struct Applied {
    std::uint32_t generation;
};
/// Descriptors that came along found no room here, and what needs them goes on as it was: to be sent again.
struct NotTaken {
    enum class What : std::uint8_t { vault, configuration, log, audit };
    What what;
    std::uint16_t worker;  ///< whose connection to the vault; otherwise 0
};
}  // namespace to_parent
using ToParent = std::variant<to_parent::Ready, to_parent::VaultLost, to_parent::Resolve, to_parent::Reload,
                              to_parent::Revoke, to_parent::Drain, to_parent::Alive, to_parent::Applied,
                              to_parent::NotTaken>;

inline constexpr std::size_t kMostLookups = 16;  ///< at once; the parent does not start more
inline constexpr std::size_t kMaxAddresses = 16;
inline constexpr std::size_t kMaxHost = 253;
inline constexpr std::size_t kMaxLine = 480;  // a longer one is cut
inline constexpr std::size_t kMaxRevoked = 15;
inline constexpr std::size_t kMaxChannelMessage = 512;

[[nodiscard]] std::vector<Byte> serialise(const ToFront& message);
[[nodiscard]] std::vector<Byte> serialise(const ToParent& message);
/// Both return nullopt if the bytes are no message of this channel.
[[nodiscard]] std::optional<ToFront> parse_to_front(Bytes message);
[[nodiscard]] std::optional<ToParent> parse_to_parent(Bytes message);

}  // namespace curvegate::daemon
