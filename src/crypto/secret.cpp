#include "crypto/secret.hpp"

#include <sodium.h>

namespace curvegate::crypto {
Result<> initialise() {
    if (::sodium_init() < 0) return fail(Errc::no_library);
    return {};
}

void wipe(MutableBytes bytes) noexcept {
    ::sodium_memzero(bytes.data(), bytes.size());
}

Result<std::unique_ptr<SecretPool>> SecretPool::create(SecretPages& pages, Locking locking,
                                                       std::size_t max_slots) {
    std::unique_ptr<SecretPool> pool(new SecretPool(pages, locking, max_slots));
    if (auto grown = pool->grow(); !grown) return fail(std::move(grown));
    return pool;
}

SecretPool::~SecretPool() {
    for (const MutableBytes chunk : chunks_) {
        wipe(chunk);
        pages_.give(chunk);
    }
}

Result<> SecretPool::grow() {
    if (slots_ >= max_slots_) return fail(Errc::secrets_full);
    const auto chunk = pages_.take();
    if (!chunk) return fail(Errc::secrets_full);
    if (!chunk->locked && locking_ == Locking::require) {
        pages_.give(chunk->bytes);
        return fail(chunks_.empty() ? Errc::memory_not_locked : Errc::secrets_full);
    }
    all_locked_ = all_locked_ && chunk->locked;
    chunks_.push_back(chunk->bytes);
    const std::size_t more = chunk->bytes.size() / kSlotSize;
    slots_ += more;
    free_.reserve(slots_);
    for (std::size_t i = more; i-- > 0;) free_.push_back(chunk->bytes.data() + i * kSlotSize);
    return {};
}

Result<Byte*> SecretPool::acquire() {
    if (free_.empty()) {
        if (auto grown = grow(); !grown) return fail(std::move(grown));
    }
    Byte* slot = free_.back();
    free_.pop_back();
    ++in_use_;
    return slot;
}

void SecretPool::release(Byte* slot) noexcept {
    wipe(MutableBytes(slot, kSlotSize));
    free_.push_back(slot);  // grow() reserved room for every slot
    --in_use_;
}

}  // namespace curvegate::crypto
