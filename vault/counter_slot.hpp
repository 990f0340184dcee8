#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"

#include <array>
#include <cstdint>
#include <string_view>

/// The nonce counter's file as bytes (docs/DESIGN.md "Nonce counter"): two slots, each a whole record of how
/// far numbers were reserved. No I/O here: counter_store.hpp reads and writes them.
namespace curvegate::vault {

inline constexpr std::size_t kCounterSlotSize = 128;
/// The slots stand in different blocks of the disk, so that a write torn by a power cut harms one of them.
inline constexpr std::size_t kCounterSlotDistance = 4096;
inline constexpr std::size_t kCounterFileSize = 2 * kCounterSlotDistance;

/// Numbers reserved by one write.
inline constexpr std::uint64_t kCounterBlock = std::uint64_t{1} << 20;
/// How far to skip when one slot does not read. Mostly that slot was torn while it was being replaced, and
/// the other is the newest: no skip would be needed. But if the newest slot itself rotted, the other is at
/// least one block behind what was handed out, more if reservations failed in between; this covers 4,095 of
/// those.
inline constexpr std::uint64_t kCounterDamageSkip = std::uint64_t{1} << 32;

/// The user's fault, or the disk's. Response: the vault refuses to start (69 in_use, 74 unreadable and
/// cannot_write, 77 denied, wrong_owner and wrong_mode, 78 all others), and a rotation does not begin with
/// such a counter. A vault that runs answers no_nonce.
enum class CounterErrc {
    missing = 1,    ///< no file
    denied,         ///< this user may not read it, or not write it or its folder
    unreadable,     ///< the system does not open or read it
    wrong_owner,    ///< not ours and not root's
    wrong_mode,     ///< others could set the counter back
    not_regular,    ///< a symlink, a folder...
    too_short,      ///< cut short
    damaged,        ///< no slot can be trusted
    other_key,      ///< it counts for another key
    later_version,  ///< a later program wrote it
    exhausted,      ///< fewer than 2^20 numbers are left; while it runs: no_nonce for good
    in_use,         ///< another process holds the lock
    no_folder,      ///< the detail has the folder that is not there
    cannot_write,   ///< while it runs: no_nonce until a reservation succeeds
};
[[nodiscard]] constexpr std::string_view layer_name(CounterErrc) {
    return "nonce counter";
}
/// What is wrong and what to do; the detail in front of it is the path.
[[nodiscard]] std::string_view describe(CounterErrc code);

/// Makes the nonces of a key that lost its counter differ from all before.
struct CounterSaltTag;
using CounterSalt = Strong<CounterSaltTag, 16>;

/// One record. Of two good ones, that with the higher sequence counts.
struct CounterSlot {
    ByteArray<32> public_key{};
    CounterSalt salt;
    std::uint64_t sequence = 0;  ///< rises by one a write
    std::uint64_t reserved = 0;  ///< numbers below this may have been used
    friend bool operator==(const CounterSlot&, const CounterSlot&) = default;
};

/// Magic, format version, key, salt, sequence, bound, then BLAKE2b-256 of all that.
[[nodiscard]] ByteArray<kCounterSlotSize> encode(const CounterSlot& slot);
/// Errors: later_version (told by magic and version alone, so that an older program never goes on from the
/// slot that a newer one left behind), damaged.
[[nodiscard]] Result<CounterSlot> decode_counter_slot(FixedBytes<kCounterSlotSize> bytes);

/// Where to go on.
struct CounterState {
    CounterSlot slot;        ///< `reserved` is the first number that may be used, skip included
    std::size_t index = 0;   ///< where it stands: the next write goes to the other one
    bool recovered = false;  ///< the other slot did not read
};
/// Both slots of a file, as read.
using CounterSlots = std::array<ByteArray<kCounterSlotSize>, 2>;
/// Picks the slot that counts. Errors: later_version, damaged, other_key, exhausted.
[[nodiscard]] Result<CounterState> choose_counter_slot(const CounterSlots& both,
                                                       const crypto::PublicKey& key);

/// The content of a new file: both slots good, nothing reserved.
[[nodiscard]] ByteArray<kCounterFileSize> new_counter_file(const crypto::PublicKey& key,
                                                           const CounterSalt& salt);

}  // namespace curvegate::vault
