#include "vault/nonce_counter.hpp"

#include <limits>
#include <utility>

namespace curvegate::vault {

Result<std::uint64_t> NonceCounter::next() {
    if (current_.left() == 0) current_ = std::exchange(spare_, Block{});
    if (current_.left() == 0) {
        if (failed_) return fail(CounterErrc::cannot_write);  // a stuck disk must not hold every request up
        if (auto reserved = reserve(); !reserved) return fail(std::move(reserved));
        current_ = std::exchange(spare_, Block{});
    }
    return current_.next++;
}

bool NonceCounter::wants_reserve() const noexcept {
    return spare_.left() == 0 && current_.left() <= kCounterBlock / 2;
}

Result<> NonceCounter::reserve() {
    if (spare_.left() != 0) return {};
    if (slot_.reserved > std::numeric_limits<std::uint64_t>::max() - kCounterBlock) {
        failed_ = true;
        return fail(CounterErrc::exhausted);
    }
    const Block block{slot_.reserved, slot_.reserved + kCounterBlock};
    // Before the write, and kept if it fails: what may stand on the disk is never offered again.
    slot_.reserved = block.end;
    ++slot_.sequence;
    const std::size_t target = 1 - durable_;
    if (auto written = writer_->write_slot(target, encode(slot_)); !written) {
        failed_ = true;
        return written;
    }
    durable_ = target;
    spare_ = block;
    failed_ = false;
    return {};
}

}  // namespace curvegate::vault
