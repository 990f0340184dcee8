#include "crypto/permutation.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/nonce_counter.hpp"
#include "vault/nonce_source.hpp"

#include <limits>
#include <set>
#include <vector>

namespace curvegate::vault {
namespace {

const crypto::PublicKey& our_key() {
    static const auto key = test::key_of(KeyRole::server, 0x11).public_key;
    return key;
}

/// A disk of two slots, with faults.
class Disk final : public SlotWriter {
  public:
    enum class Fault { none, nothing_written, torn, written_but_not_acknowledged };

    Disk() {
        const auto file = new_counter_file(our_key(), {});
        std::copy_n(file.begin(), kCounterSlotSize, slots[0].begin());
        std::copy_n(file.begin() + kCounterSlotDistance, kCounterSlotSize, slots[1].begin());
    }
    Result<> write_slot(std::size_t index, FixedBytes<kCounterSlotSize> slot) override {
        ++writes;
        written_to.push_back(index);
        const std::size_t bytes = fault == Fault::nothing_written ? 0
                                  : fault == Fault::torn          ? 100
                                                                  : slot.size();
        std::copy_n(slot.begin(), bytes, slots[index].begin());
        if (fault != Fault::none) return fail(CounterErrc::cannot_write);
        return {};
    }
    /// What a vault finds when it starts now.
    [[nodiscard]] Result<CounterState> state() const { return choose_counter_slot(slots, our_key()); }

    CounterSlots slots{};
    Fault fault = Fault::none;
    int writes = 0;
    std::vector<std::size_t> written_to;
};

NonceCounter started(Disk& disk) {
    NonceCounter counter(disk.state().value(), disk);
    REQUIRE(counter.reserve());
    return counter;
}

void use(NonceCounter& counter, std::uint64_t numbers) {
    for (std::uint64_t i = 0; i < numbers; ++i) REQUIRE(counter.next().has_value());
}

TEST_CASE("no number is handed out before its block is durable") {
    Disk disk;
    NonceCounter counter(disk.state().value(), disk);
    disk.fault = Disk::Fault::written_but_not_acknowledged;
    const auto number = counter.next();
    REQUIRE_FALSE(number);
    CHECK(number.error().is(CounterErrc::cannot_write));
    CHECK(disk.writes == 1);
}

TEST_CASE("numbers rise by one and blocks follow each other without a write in a request") {
    Disk disk;
    auto counter = started(disk);
    std::uint64_t last = counter.next().value();
    CHECK(last == 0);
    for (std::uint64_t i = 1; i < 3 * kCounterBlock; ++i) {
        const int writes = disk.writes;
        const auto number = counter.next().value();
        REQUIRE(number == last + 1);
        REQUIRE(disk.writes == writes);
        last = number;
        if (counter.wants_reserve()) REQUIRE(counter.reserve());
    }
    CHECK(disk.writes == 4);
    CHECK(disk.written_to == std::vector<std::size_t>{1, 0, 1, 0});
}

TEST_CASE("the next block is wanted when half of one is used") {
    Disk disk;
    auto counter = started(disk);
    use(counter, kCounterBlock / 2 - 1);
    CHECK_FALSE(counter.wants_reserve());
    use(counter, 1);
    CHECK(counter.wants_reserve());
    REQUIRE(counter.reserve());
    CHECK_FALSE(counter.wants_reserve());
}

TEST_CASE("a counter that nobody tends reserves on the spot") {
    Disk disk;
    auto counter = started(disk);
    use(counter, kCounterBlock + 1);
    CHECK(disk.writes == 2);
}

TEST_CASE("after a failed reservation what is durable is used up, then nothing, until one succeeds") {
    Disk disk;
    auto counter = started(disk);
    use(counter, kCounterBlock / 2);
    disk.fault = Disk::Fault::written_but_not_acknowledged;
    REQUIRE_FALSE(counter.reserve());
    CHECK(counter.failed());
    use(counter, kCounterBlock / 2);
    const int writes = disk.writes;
    CHECK_FALSE(counter.next());
    CHECK_FALSE(counter.next());
    CHECK(disk.writes == writes);  // a request does not try the disk again

    disk.fault = Disk::Fault::none;
    REQUIRE(counter.reserve());
    CHECK_FALSE(counter.failed());
    // The block whose write was not acknowledged is never used.
    CHECK(counter.next().value() == 2 * kCounterBlock);
}

TEST_CASE("a failed reservation is written again to its own slot, so that the durable one stays") {
    Disk disk;
    auto counter = started(disk);
    const auto durable = disk.slots[1];
    disk.written_to.clear();
    disk.fault = Disk::Fault::torn;
    use(counter, kCounterBlock);
    for (int i = 0; i < 3; ++i) REQUIRE_FALSE(counter.reserve());
    CHECK(disk.slots[1] == durable);
    disk.fault = Disk::Fault::none;
    REQUIRE(counter.reserve());
    CHECK(disk.written_to == std::vector<std::size_t>{0, 0, 0, 0});
}

TEST_CASE("numbers stay distinct over restarts, whatever the last write did") {
    for (const auto fault : {Disk::Fault::none, Disk::Fault::nothing_written, Disk::Fault::torn,
                             Disk::Fault::written_but_not_acknowledged}) {
        Disk disk;
        std::set<std::uint64_t> given;
        const auto take = [&](NonceCounter& counter, std::uint64_t numbers) {
            for (std::uint64_t i = 0; i < numbers; ++i) {
                if (const auto number = counter.next()) REQUIRE(given.insert(*number).second);
            }
        };
        for (int start = 0; start < 4; ++start) {
            auto counter = started(disk);
            take(counter, 1000);
            disk.fault = fault;
            (void)counter.reserve();
            take(counter, 1000);
            disk.fault = Disk::Fault::none;
        }
        CHECK(given.size() == 8000);
    }
}

TEST_CASE("numbers stay distinct when the newest slot rots after many failed reservations") {
    Disk disk;
    auto counter = started(disk);
    use(counter, 1);
    disk.fault = Disk::Fault::nothing_written;
    for (int i = 0; i < 100; ++i) REQUIRE_FALSE(counter.reserve());
    disk.fault = Disk::Fault::none;
    REQUIRE(counter.reserve());
    use(counter, kCounterBlock - 1);
    const auto last = counter.next().value();
    CHECK(last == 101 * kCounterBlock);

    disk.slots[disk.written_to.back()].fill(0);
    CHECK(disk.state().value().slot.reserved > last + kCounterBlock);
}

TEST_CASE("a counter at the end of its numbers stops and never wraps") {
    Disk disk;
    CounterSlot slot;
    slot.public_key = to_array(our_key().bytes());
    slot.sequence = 7;
    slot.reserved = std::numeric_limits<std::uint64_t>::max() - kCounterBlock;
    disk.slots[0] = encode(slot);
    auto counter = started(disk);
    use(counter, kCounterBlock);
    const auto number = counter.next();
    REQUIRE_FALSE(number);
    CHECK(number.error().is(CounterErrc::exhausted));
    CHECK_FALSE(counter.next());
}

TEST_CASE(
    "long-term nonces are distinct over restarts, and over a restored old counter by their random half") {
    Disk disk;
    const auto key = test::key_of(KeyRole::server, 0x11);
    const Disk backup = disk;
    std::set<crypto::LongTermNonce> given;
    test::CountingRandom random;
    const auto run = [&](Disk& on) {
        auto counter = started(on);
        PermutedNonces nonces(crypto::NoncePermutation::derive(key.secret, CounterSalt{}.bytes).value(),
                              counter, random);
        for (int i = 0; i < 20; ++i) REQUIRE(given.insert(nonces.next().value()).second);
    };
    run(disk);
    run(disk);
    Disk restored = backup;
    run(restored);
    CHECK(given.size() == 60);
}

}  // namespace
}  // namespace curvegate::vault
