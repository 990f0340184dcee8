#include "vault/rotation_state.hpp"

#include <sodium.h>

#include <algorithm>
#include <span>
#include <utility>

namespace curvegate::vault {
namespace {

constexpr ByteArray<8> kMagic = {'c', 'g', 'r', 'o', 't', 'a', 't', 'e'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChecksumSize = 32;
constexpr std::size_t kCheckedSize = kRotationRecordSize - kChecksumSize;
constexpr std::size_t kHeaderFields = 8 + 4 + 4 + 8 + 1 + 1 + 6 + kServerSlots / 8;
constexpr std::size_t kKeyFields = 1 + 1 + 2 + 32 + kLongestKeyPath;
static_assert(kHeaderFields + 2 * kKeyFields <= kCheckedSize);

ByteArray<kChecksumSize> checksum(FixedBytes<kCheckedSize> bytes) {
    ByteArray<kChecksumSize> out{};
    ::crypto_generichash(out.data(), out.size(), bytes.data(), bytes.size(), nullptr, 0);
    return out;
}

void put(Writer& out, const RotationKey& key) {
    out.integer(static_cast<Byte>(key.slot))
        .integer(Byte{0})
        .integer(static_cast<std::uint16_t>(key.path.size()))
        .put(key.public_key);
    auto room = out.claim<kLongestKeyPath>();
    std::ranges::copy(as_bytes(key.path), room.begin());
}

std::optional<RotationKey> take_key(Reader& reader) {
    RotationKey out;
    const auto slot = reader.integer<Byte>();
    const auto reserved = reader.integer<Byte>();
    const auto size = reader.integer<std::uint16_t>();
    out.public_key = to_array(reader.take<32>());
    const auto room = reader.take<kLongestKeyPath>();
    if (slot >= kServerSlots || reserved != 0 || size > kLongestKeyPath) return std::nullopt;
    out.slot = static_cast<KeySlot>(slot);
    out.path = as_text(room.first(size));
    if (!out.path.empty() && !is_key_path(out.path)) return std::nullopt;
    return out;
}

/// The next number that is not a live key's: 128 rotations come by before one is given again.
Byte after(Byte slot, KeySlot taken) {
    const auto next = static_cast<Byte>((slot + 1) % kServerSlots);
    return next == static_cast<Byte>(taken) ? static_cast<Byte>((next + 1) % kServerSlots) : next;
}

RotationState without_second(RotationState state) {
    state.part = Second::none;
    state.second = {};
    return state;
}

}  // namespace

std::string_view describe(RotationErrc code) {
    switch (code) {
        case RotationErrc::damaged:
            return "the state of the key rotation is damaged in both records; move the file away, and name "
                   "the "
                   "key that clients pin as server-key";
        case RotationErrc::later_version:
            return "the state of the key rotation was written by a later version of curvegate; use that "
                   "version";
        case RotationErrc::unusable: return "the state of the key rotation cannot be used";
        case RotationErrc::other_key:
            return "the file holds another key than the state of the key rotation says; put the right file "
                   "back, or move that state's file away to begin anew with the key that server-key names";
        case RotationErrc::in_use:
            return "the key rotation is in use by another vault, of a second daemon with this key; stop that "
                   "one "
                   "first, or make this one a key of its own";
        case RotationErrc::no_folder:
            return "this folder, which is to hold the state of the key rotation (state-dir), is not there; "
                   "make "
                   "it for the user that the vault runs as: install -d -m 0700 -o USER FOLDER";
        case RotationErrc::cannot_write:
            return "the state of the key rotation cannot be written; mend or free the disk";
    }
    return "unknown";
}

RotationState single_key(const crypto::PublicKey& key, std::string path) {
    RotationState out;
    out.current.public_key = to_array(key.bytes());
    if (is_key_path(path)) out.current.path = std::move(path);
    return out;
}

bool is_live(const RotationState& state, const crypto::PublicKey& key) {
    const bool second =
        state.part != Second::none && std::ranges::equal(key.bytes(), state.second.public_key);
    return second || std::ranges::equal(key.bytes(), state.current.public_key);
}

Step begin_rotation(const RotationState& state, const crypto::PublicKey& key, std::string path) {
    if (state.part != Second::none) {
        return std::unexpected(
            state.part == Second::next
                ? "there is a next key already; go on with `curvegate rotate switch`, or take "
                  "it back with `curvegate rotate cancel`"
                : "the previous key is still live; end that rotation first with `curvegate "
                  "rotate finish`");
    }
    if (std::ranges::equal(key.bytes(), state.current.public_key))
        return std::unexpected("this is the current key; make another with `curvegate keygen`");
    if (!is_key_path(path)) return std::unexpected("the path of the key file is not absolute or too long");
    RotationState out = state;
    ++out.sequence;
    out.part = Second::next;
    out.second = {static_cast<KeySlot>(state.next_slot), to_array(key.bytes()), std::move(path)};
    out.next_slot = after(state.next_slot, state.current.slot);
    out.dropped.reset(state.next_slot);
    return out;
}

Step switch_keys(const RotationState& state) {
    if (state.part == Second::none)
        return std::unexpected("there is no next key; begin with `curvegate rotate start`");
    RotationState out = state;
    ++out.sequence;
    std::swap(out.current, out.second);
    // Back again as well: until the rotation is finished nothing is lost by it.
    out.part = state.part == Second::next ? Second::previous : Second::next;
    return out;
}

Step finish_rotation(const RotationState& state) {
    if (state.part == Second::none) return std::unexpected("no rotation is under way");
    if (state.part == Second::next) {
        return std::unexpected(
            "the next key is not the current one yet: `curvegate rotate switch` first, or take it back with "
            "`curvegate rotate cancel`");
    }
    RotationState out = without_second(state);
    ++out.sequence;
    return out;
}

Step cancel_rotation(const RotationState& state) {
    if (state.part == Second::none) return std::unexpected("no rotation is under way");
    if (state.part == Second::previous) {
        return std::unexpected(
            "the new key is the current one already; `curvegate rotate switch` goes back, `curvegate rotate "
            "finish` goes on");
    }
    RotationState out = without_second(state);
    ++out.sequence;
    return out;
}

Step drop_compromised(const RotationState& state) {
    if (state.part == Second::none) {
        return std::unexpected(
            "there is no other key to go on with; make one live first with `curvegate rotate start`, then "
            "say "
            "this again");
    }
    RotationState out = state;
    if (state.part == Second::next) std::swap(out.current, out.second);
    out.dropped.set(static_cast<std::size_t>(out.second.slot));
    out = without_second(std::move(out));
    ++out.sequence;
    return out;
}

bool is_key_path(std::string_view path) {
    return path.size() <= kLongestKeyPath && path.starts_with('/') && std::ranges::none_of(path, [](char c) {
               return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
           });
}

ByteArray<kRotationRecordSize> encode(const RotationState& state) {
    ByteArray<kRotationRecordSize> out{};
    Writer writer(out);
    writer.put(kMagic)
        .integer(kVersion)
        .integer(std::uint32_t{0})
        .integer(state.sequence)
        .integer(static_cast<Byte>(state.part))
        .integer(state.next_slot)
        .put(ByteArray<6>{});
    ByteArray<kServerSlots / 8> bits{};
    for (std::size_t i = 0; i < kServerSlots; ++i) {
        if (state.dropped.test(i)) bits[i / 8] = static_cast<Byte>(bits[i / 8] | (1U << (i % 8)));
    }
    writer.put(bits);
    put(writer, state.current);
    put(writer, state.second);
    const std::span whole(out);
    std::ranges::copy(checksum(whole.first<kCheckedSize>()), whole.last<kChecksumSize>().begin());
    return out;
}

Result<RotationState> decode_rotation(FixedBytes<kRotationRecordSize> bytes) {
    Reader reader(bytes);
    if (!std::ranges::equal(reader.take<kMagic.size()>(), kMagic)) return fail(RotationErrc::damaged);
    const auto version = reader.integer<std::uint32_t>();
    if (version > kVersion) return fail(RotationErrc::later_version);
    const auto expected = checksum(bytes.first<kCheckedSize>());
    if (version != kVersion || !std::ranges::equal(bytes.last<kChecksumSize>(), expected))
        return fail(RotationErrc::damaged);
    (void)reader.integer<std::uint32_t>();  // reserved, zero; the checksum covers it
    RotationState out;
    out.sequence = reader.integer<std::uint64_t>();
    const auto part = reader.integer<Byte>();
    out.next_slot = reader.integer<Byte>();
    (void)reader.take<6>();
    const auto bits = reader.take<kServerSlots / 8>();
    for (std::size_t i = 0; i < kServerSlots; ++i) out.dropped.set(i, ((bits[i / 8] >> (i % 8)) & 1) != 0);
    auto current = take_key(reader);
    auto second = take_key(reader);
    if (!current || !second || part > static_cast<Byte>(Second::previous) || out.next_slot >= kServerSlots)
        return fail(RotationErrc::damaged);
    out.part = static_cast<Second>(part);
    if (out.part != Second::none &&
        (current->slot == second->slot || second->public_key == current->public_key))
        return fail(RotationErrc::damaged);
    out.current = std::move(*current);
    out.second = std::move(*second);
    return out;
}

Result<ChosenRotation> choose_rotation(FixedBytes<kRotationFileSize> file) {
    std::array records = {decode_rotation(file.first<kRotationRecordSize>()),
                          decode_rotation(file.last<kRotationRecordSize>())};
    for (const auto& record : records) {
        if (!record && record.error().is(RotationErrc::later_version))
            return fail(RotationErrc::later_version);
    }
    if (!records[0] && !records[1]) return fail(RotationErrc::damaged);
    std::size_t newest = records[0] ? 0 : 1;
    if (records[0] && records[1] && records[1]->sequence > records[0]->sequence) newest = 1;
    return ChosenRotation{std::move(*records[newest]), newest};
}

ByteArray<kRotationFileSize> new_rotation_file(const RotationState& state) {
    ByteArray<kRotationFileSize> out{};
    const auto record = encode(state);
    std::ranges::copy(record, out.begin());
    std::ranges::copy(record, out.begin() + kRotationRecordSize);
    return out;
}

}  // namespace curvegate::vault
