#include "vault/counter_slot.hpp"

#include <sodium.h>

#include <limits>
#include <span>

namespace curvegate::vault {
namespace {

constexpr ByteArray<8> kMagic = {'c', 'g', 'n', 'o', 'n', 'c', 'e', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChecksumSize = 32;
constexpr std::size_t kCheckedSize = kCounterSlotSize - kChecksumSize;

ByteArray<kChecksumSize> checksum(FixedBytes<kCheckedSize> bytes) {
    ByteArray<kChecksumSize> out{};
    ::crypto_generichash(out.data(), out.size(), bytes.data(), bytes.size(), nullptr, 0);
    return out;
}

/// Two good slots of one file differ in sequence and bound only, and both rise together.
bool belong_together(const CounterSlot& older, const CounterSlot& newer) {
    return older.salt == newer.salt && older.sequence < newer.sequence && older.reserved <= newer.reserved;
}

/// `state` if enough numbers are left, its own skip included.
Result<CounterState> with_room(CounterState state) {
    constexpr auto kLast = std::numeric_limits<std::uint64_t>::max();
    const std::uint64_t skip = state.recovered ? kCounterDamageSkip : 0;
    if (state.slot.reserved > kLast - kCounterBlock - skip) return fail(CounterErrc::exhausted);
    state.slot.reserved += skip;
    return state;
}

}  // namespace

std::string_view describe(CounterErrc code) {
    switch (code) {
        case CounterErrc::missing:
            return "the nonce counter of this key is missing; run `curvegate counter init -c FILE` to make "
                   "one";
        case CounterErrc::denied:
            return "the nonce counter and its folder must belong to the user that the vault runs as: chown "
                   "them";
        case CounterErrc::unreadable: return "the nonce counter cannot be read";
        case CounterErrc::wrong_owner:
            return "the nonce counter belongs to somebody else; start the vault as its owner, or chown it to "
                   "the "
                   "vault's user, or run `curvegate counter init -c FILE` as that user";
        case CounterErrc::wrong_mode:
            return "the nonce counter is open to others; chmod 600 it, and if others may have changed it "
                   "move it "
                   "away and run `curvegate counter init -c FILE`";
        case CounterErrc::not_regular:
            return "the nonce counter is not a regular file (a symlink?); move it away and run "
                   "`curvegate counter init -c FILE`";
        case CounterErrc::too_short:
            return "the nonce counter is cut short; run `curvegate counter init -c FILE` to make a new one";
        case CounterErrc::damaged:
            return "the nonce counter is damaged in both slots; run `curvegate counter init -c FILE` to make "
                   "a new "
                   "one";
        case CounterErrc::other_key:
            return "the nonce counter is another key's; move it away and run `curvegate counter init -c "
                   "FILE`";
        case CounterErrc::later_version:
            return "the nonce counter was written by a later version of curvegate; use that version, or move "
                   "it "
                   "away and run `curvegate counter init -c FILE`";
        case CounterErrc::exhausted:
            return "the nonce counter has fewer than 2^20 numbers left; run `curvegate counter init -c FILE` "
                   "to "
                   "start a new one";
        case CounterErrc::in_use:
            return "the nonce counter is in use by another vault, of a second daemon with this key; stop "
                   "that one "
                   "first, or make this one a key of its own";
        case CounterErrc::no_folder:
            return "this folder, which is to hold the nonce counter (state-dir), is not there; make it for "
                   "the "
                   "user that the vault runs as: install -d -m 0700 -o USER FOLDER";
        case CounterErrc::cannot_write: return "the nonce counter cannot be written; mend or free the disk";
    }
    return "unknown";
}

ByteArray<kCounterSlotSize> encode(const CounterSlot& slot) {
    ByteArray<kCounterSlotSize> out{};
    Writer(out)
        .put(kMagic)
        .integer(kVersion)
        .integer(std::uint32_t{0})
        .put(slot.public_key)
        .put(slot.salt.bytes)
        .integer(slot.sequence)
        .integer(slot.reserved);
    const std::span whole(out);
    std::ranges::copy(checksum(whole.first<kCheckedSize>()), whole.last<kChecksumSize>().begin());
    return out;
}

Result<CounterSlot> decode_counter_slot(FixedBytes<kCounterSlotSize> bytes) {
    Reader reader(bytes);
    if (!std::ranges::equal(reader.take<kMagic.size()>(), kMagic)) return fail(CounterErrc::damaged);
    const auto version = reader.integer<std::uint32_t>();
    if (version > kVersion) return fail(CounterErrc::later_version);
    const auto expected = checksum(bytes.first<kCheckedSize>());
    if (version != kVersion || !std::ranges::equal(bytes.last<kChecksumSize>(), expected)) {
        return fail(CounterErrc::damaged);
    }
    (void)reader.integer<std::uint32_t>();  // reserved, zero; the checksum covers it
    CounterSlot slot;
    slot.public_key = to_array(reader.take<32>());
    slot.salt.bytes = to_array(reader.take<CounterSalt::kSize>());
    slot.sequence = reader.integer<std::uint64_t>();
    slot.reserved = reader.integer<std::uint64_t>();
    return slot;
}

Result<CounterState> choose_counter_slot(const CounterSlots& both, const crypto::PublicKey& key) {
    const std::array slots = {decode_counter_slot(both[0]), decode_counter_slot(both[1])};
    for (const auto& slot : slots) {
        if (!slot && slot.error().is(CounterErrc::later_version)) return fail(CounterErrc::later_version);
    }
    if (!slots[0] && !slots[1]) return fail(CounterErrc::damaged);
    for (const auto& slot : slots) {
        if (slot && !std::ranges::equal(slot->public_key, key.bytes())) return fail(CounterErrc::other_key);
    }
    if (!slots[0] || !slots[1]) {
        const std::size_t good = slots[0] ? 0 : 1;
        return with_room({*slots[good], good, true});
    }
    const std::size_t newer = slots[0]->sequence > slots[1]->sequence ? 0 : 1;
    if (!belong_together(*slots[1 - newer], *slots[newer])) return fail(CounterErrc::damaged);
    return with_room({*slots[newer], newer, false});
}

ByteArray<kCounterFileSize> new_counter_file(const crypto::PublicKey& key, const CounterSalt& salt) {
    ByteArray<kCounterFileSize> out{};
    const CounterSlot older{to_array(key.bytes()), salt, 0, 0};
    const CounterSlot newer{to_array(key.bytes()), salt, 1, 0};
    std::ranges::copy(encode(newer), out.begin());
    std::ranges::copy(encode(older), out.begin() + kCounterSlotDistance);
    return out;
}

}  // namespace curvegate::vault
