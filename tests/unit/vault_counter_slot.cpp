#include "tests/unit/vault_support.hpp"
#include "vault/counter_slot.hpp"

#include <limits>

namespace curvegate::vault {
namespace {

using Slot = ByteArray<kCounterSlotSize>;

const crypto::PublicKey& our_key() {
    static const auto key = test::key_of(KeyRole::server, 0x11).public_key;
    return key;
}

CounterSlot record(std::uint64_t sequence, std::uint64_t reserved) {
    CounterSlot slot;
    slot.public_key = to_array(our_key().bytes());
    slot.salt.bytes.fill(7);
    slot.sequence = sequence;
    slot.reserved = reserved;
    return slot;
}

bool refuses(const Result<CounterState>& state, CounterErrc code) {
    return !state && state.error().is(code);
}

TEST_CASE("a counter slot survives encoding") {
    const auto slot = record(5, 1234567);
    CHECK(decode_counter_slot(encode(slot)).value() == slot);
}

TEST_CASE("a counter slot with any bit changed is not trusted") {
    const auto good = encode(record(5, 1234567));
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
        auto bytes = good;
        bytes[bit / 8] = static_cast<Byte>(bytes[bit / 8] ^ (1U << (bit % 8)));
        const auto slot = decode_counter_slot(bytes);
        REQUIRE_FALSE(slot);
        // A changed version may be a later one's: refused with those words.
        CHECK((slot.error().is(CounterErrc::damaged) || slot.error().is(CounterErrc::later_version)));
    }
}

TEST_CASE("the slot with the higher sequence counts, wherever it stands") {
    const auto older = encode(record(8, 8 * kCounterBlock));
    const auto newer = encode(record(9, 9 * kCounterBlock));
    const auto second = choose_counter_slot({older, newer}, our_key()).value();
    CHECK(second.slot.reserved == 9 * kCounterBlock);
    CHECK(second.index == 1);
    CHECK_FALSE(second.recovered);
    const auto first = choose_counter_slot({newer, older}, our_key()).value();
    CHECK(first.slot.reserved == 9 * kCounterBlock);
    CHECK(first.index == 0);
}

TEST_CASE("a write torn at any byte never leads below what was reserved before") {
    const auto live = encode(record(9, 9 * kCounterBlock));
    const auto before = encode(record(8, 8 * kCounterBlock));
    const auto after = encode(record(10, 10 * kCounterBlock));
    for (std::size_t written = 0; written <= kCounterSlotSize; ++written) {
        Slot torn = before;
        std::copy_n(after.begin(), written, torn.begin());
        const auto state = choose_counter_slot({live, torn}, our_key());
        REQUIRE(state);
        CHECK(state->slot.reserved >= 9 * kCounterBlock);
    }
}

TEST_CASE("when the newest slot rots, numbers are skipped beyond all that it may have reserved") {
    const auto older = encode(record(8, 8 * kCounterBlock));
    const Slot rotten{};
    const auto state = choose_counter_slot({older, rotten}, our_key()).value();
    CHECK(state.recovered);
    CHECK(state.index == 0);
    CHECK(state.slot.reserved == 8 * kCounterBlock + kCounterDamageSkip);
}

TEST_CASE("a counter with both slots damaged is refused") {
    CHECK(refuses(choose_counter_slot({Slot{}, Slot{}}, our_key()), CounterErrc::damaged));
}

TEST_CASE("two slots that do not belong together are refused") {
    auto salted = record(10, 10 * kCounterBlock);
    salted.salt.bytes[0] ^= 1;
    const auto live = encode(record(9, 9 * kCounterBlock));
    CHECK(refuses(choose_counter_slot({live, encode(salted)}, our_key()), CounterErrc::damaged));
    CHECK(refuses(choose_counter_slot({live, live}, our_key()), CounterErrc::damaged));
    // Newer by its sequence, older by its bound.
    CHECK(refuses(choose_counter_slot({live, encode(record(10, 1))}, our_key()), CounterErrc::damaged));
}

TEST_CASE("a counter of another key is refused, also when only one slot says so") {
    auto foreign = record(10, 10 * kCounterBlock);
    foreign.public_key[0] ^= 1;
    const auto ours = encode(record(9, 9 * kCounterBlock));
    CHECK(refuses(choose_counter_slot({ours, encode(foreign)}, our_key()), CounterErrc::other_key));
    CHECK(refuses(choose_counter_slot({encode(foreign), Slot{}}, our_key()), CounterErrc::other_key));
}

TEST_CASE("a slot of a later version is never passed over for an older one") {
    auto later = encode(record(10, 10 * kCounterBlock));
    later[11] = 2;
    const auto ours = encode(record(9, 9 * kCounterBlock));
    CHECK(refuses(choose_counter_slot({ours, later}, our_key()), CounterErrc::later_version));
    CHECK(refuses(choose_counter_slot({later, ours}, our_key()), CounterErrc::later_version));
}

TEST_CASE("a counter with fewer than 2^20 numbers left is refused") {
    constexpr auto kLast = std::numeric_limits<std::uint64_t>::max();
    const auto older = encode(record(1, 0));
    CHECK(choose_counter_slot({encode(record(2, kLast - kCounterBlock)), older}, our_key()));
    CHECK(refuses(choose_counter_slot({encode(record(2, kLast - kCounterBlock + 1)), older}, our_key()),
                  CounterErrc::exhausted));
    CHECK(refuses(choose_counter_slot({encode(record(2, kLast)), older}, our_key()), CounterErrc::exhausted));
    // The skip after damage counts too.
    CHECK(refuses(choose_counter_slot({encode(record(2, kLast - kCounterDamageSkip)), Slot{}}, our_key()),
                  CounterErrc::exhausted));
}

TEST_CASE("a new counter file holds two good slots and nothing reserved") {
    CounterSalt salt;
    salt.bytes.fill(3);
    const auto file = new_counter_file(our_key(), salt);
    CounterSlots slots{};
    std::copy_n(file.begin(), kCounterSlotSize, slots[0].begin());
    std::copy_n(file.begin() + kCounterSlotDistance, kCounterSlotSize, slots[1].begin());
    const auto state = choose_counter_slot(slots, our_key()).value();
    CHECK(state.slot.reserved == 0);
    CHECK(state.slot.salt == salt);
    CHECK_FALSE(state.recovered);
}

}  // namespace
}  // namespace curvegate::vault
