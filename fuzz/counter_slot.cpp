// The nonce counter's two slots: what decodes is written back as it came, and no number below the greatest
// bound of a good slot of this key is offered again.
#include "vault/counter_slot.hpp"
#include "harness.hpp"

using namespace curvegate;
using vault::kCounterSlotSize;

namespace {

const ByteArray<32> kKey = {9};

/// A good slot with numbers from the input, or the input itself.
ByteArray<kCounterSlotSize> slot_from(Reader& reader, Bytes raw) {
    if (reader.integer<Byte>() % 2 == 0) {
        vault::CounterSlot slot{kKey, {}, reader.integer<std::uint64_t>(), reader.integer<std::uint64_t>()};
        return encode(slot);
    }
    ByteArray<kCounterSlotSize> out{};
    std::copy_n(raw.begin(), std::min(raw.size(), out.size()), out.begin());
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto input = fuzz::copy_of(data, size);
    if (input.size() < 34) return 0;
    Reader reader(input);
    const vault::CounterSlots slots = {slot_from(reader, Bytes(input).subspan(34)),
                                       slot_from(reader, Bytes(input).subspan(34))};
    const auto state = vault::choose_counter_slot(slots, *crypto::PublicKey::parse(kKey));
    for (const auto& bytes : slots) {
        const auto slot = vault::decode_counter_slot(bytes);
        if (!slot) continue;
        fuzz::must(encode(*slot) == bytes);
        if (!state || slot->public_key != kKey) continue;
        const auto chosen = vault::decode_counter_slot(slots[state->index]);
        fuzz::must(chosen && chosen->sequence >= slot->sequence && state->slot.reserved >= chosen->reserved);
    }
    return 0;
}
