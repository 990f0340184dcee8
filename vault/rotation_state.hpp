#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "vault/protocol/protocol.hpp"

#include <array>
#include <bitset>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

/// Which server keys a vault has, and how far a rotation has come: a record of fixed size and the steps from
/// one to the next (PROTOCOL 11.4). No I/O here: rotation_store.hpp reads and writes records.
namespace curvegate::vault {

inline constexpr std::size_t kLongestKeyPath = 1024;
/// Two records in a file, each a whole state, as with the nonce counter: writing one never touches the other.
inline constexpr std::size_t kRotationRecordSize = 4096;
inline constexpr std::size_t kRotationFileSize = 2 * kRotationRecordSize;

/// The user's fault, or the disk's. Response: the vault refuses to start (69 in_use, 74 cannot_write, 77
/// unusable, 78 all others).
enum class RotationErrc {
    damaged = 1,    ///< no record can be trusted
    later_version,  ///< a later program wrote it
    unusable,       ///< missing rights, a disk that does not read...; the detail says what
    other_key,      ///< a key file holds another key than the state says
    in_use,         ///< another vault has it
    no_folder,      ///< the detail has the folder that is not there
    cannot_write,   ///< while it runs: the step is refused, and the state is as it was
};
[[nodiscard]] constexpr std::string_view layer_name(RotationErrc) {
    return "rotation";
}
/// What is wrong and what to do; the detail in front of it is the path.
[[nodiscard]] std::string_view describe(RotationErrc code);

/// A server key: its slot, and where its file is, so that the next start finds it.
struct RotationKey {
    KeySlot slot = KeySlot::server;
    ByteArray<32> public_key{};
    std::string path;  ///< absolute; empty: only `server-key` tells
    friend bool operator==(const RotationKey&, const RotationKey&) = default;
};

/// What the second key is.
enum class Second : Byte {
    none = 0,
    next = 1,      ///< live beside the current one, not yet shown to new clients as the one to pin
    previous = 2,  ///< was the current one; still answered
};

struct RotationState {
    std::uint64_t sequence = 0;  ///< of the record; rises by one a write
    RotationKey current;
    Second part = Second::none;
    RotationKey second;                 ///< meaningful unless `part` is none
    Byte next_slot = 1;                 ///< for the next new key
    std::bitset<kServerSlots> dropped;  ///< slots of keys that were dropped as compromised
    friend bool operator==(const RotationState&, const RotationState&) = default;
};

/// A vault that never saw a rotation.
[[nodiscard]] RotationState single_key(const crypto::PublicKey& key, std::string path);
[[nodiscard]] bool is_live(const RotationState& state, const crypto::PublicKey& key);

// The steps. Each gives the state after it, or the words for the person who asked for it.
using Step = std::expected<RotationState, std::string>;
[[nodiscard]] Step begin_rotation(const RotationState& state, const crypto::PublicKey& key, std::string path);
[[nodiscard]] Step switch_keys(const RotationState& state);
[[nodiscard]] Step finish_rotation(const RotationState& state);
/// Takes a next key back that is not switched to yet.
[[nodiscard]] Step cancel_rotation(const RotationState& state);
/// The old key, switched from or not yet, goes, and its slot is marked.
[[nodiscard]] Step drop_compromised(const RotationState& state);

/// A path that a record can hold: absolute, not too long, without control characters.
[[nodiscard]] bool is_key_path(std::string_view path);

[[nodiscard]] ByteArray<kRotationRecordSize> encode(const RotationState& state);
/// Errors: later_version, damaged.
[[nodiscard]] Result<RotationState> decode_rotation(FixedBytes<kRotationRecordSize> bytes);

/// Where to go on.
struct ChosenRotation {
    RotationState state;
    std::size_t index = 0;  ///< of the record that counts; the next write goes to the other one
};
/// Of two good records that with the higher sequence. Errors: later_version, damaged.
[[nodiscard]] Result<ChosenRotation> choose_rotation(FixedBytes<kRotationFileSize> file);
/// The content of a new file.
[[nodiscard]] ByteArray<kRotationFileSize> new_rotation_file(const RotationState& state);

}  // namespace curvegate::vault
