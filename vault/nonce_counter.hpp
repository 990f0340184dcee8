#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "vault/counter_slot.hpp"

#include <cstdint>

namespace curvegate::vault {

/// Where slots go to: the file in the vault, memory in tests.
class SlotWriter {
  public:
    virtual ~SlotWriter() = default;
    /// Success only when the slot will survive a power cut. After an error the slot's content is unknown.
    [[nodiscard]] virtual Result<> write_slot(std::size_t index, FixedBytes<kCounterSlotSize> slot) = 0;
};

/// Gives each number once, over all restarts: a number is handed out only after a bound above it is durable.
///
/// When a reservation fails its block is dropped and never used, and the counter is `failed` until another
/// reservation succeeds; numbers of blocks that are durable may still be used. Another attempt writes the
/// whole slot again, with a new sequence and block: a second fdatasync alone would lie, because after a
/// failed one Linux holds the pages to be clean. It writes to the same slot again: the other one is the last
/// that is known to be durable and must stay.
class NonceCounter {
  public:
    /// `state` as read at the start; `writer` must outlive the counter. Hands out nothing before reserve().
    NonceCounter(const CounterState& state, SlotWriter& writer) noexcept
        : slot_(state.slot), durable_(state.index), writer_(&writer) {}

    /// The next number. Reserves on the spot if none is left and the last reservation did not fail.
    /// Errors: cannot_write, exhausted.
    [[nodiscard]] Result<std::uint64_t> next();
    /// Whether half of the block is used and no other stands ready.
    [[nodiscard]] bool wants_reserve() const noexcept;
    /// Makes the next block durable; to be called outside of requests. Errors: cannot_write, exhausted.
    [[nodiscard]] Result<> reserve();
    /// The last reservation failed: call reserve() again after a while, not at once.
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    struct Block {
        std::uint64_t next = 0;
        std::uint64_t end = 0;
        [[nodiscard]] std::uint64_t left() const noexcept { return end - next; }
    };

    CounterSlot slot_;     // as last written, or tried to
    std::size_t durable_;  // index of the last slot that is known to be durable
    Block current_;
    Block spare_;
    bool failed_ = false;
    SlotWriter* writer_;
};

}  // namespace curvegate::vault
