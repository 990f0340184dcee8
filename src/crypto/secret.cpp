#include "crypto/secret.hpp"

#include <sodium.h>
#include <sys/mman.h>
#include <unistd.h>

namespace curvegate::crypto {
namespace {

// A chunk is kChunkPages of slots between two pages without any access.
constexpr std::size_t kChunkPages = 4;

std::size_t page_size() noexcept {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

Result<> initialise() {
    if (::sodium_init() < 0) return fail(Errc::no_library);
    return {};
}

void wipe(MutableBytes bytes) noexcept {
    ::sodium_memzero(bytes.data(), bytes.size());
}

Result<std::unique_ptr<SecretPool>> SecretPool::create(Locking locking, std::size_t max_slots) {
    std::unique_ptr<SecretPool> pool(new SecretPool(locking, max_slots));
    if (auto grown = pool->grow(); !grown) return fail(std::move(grown));
    return pool;
}

SecretPool::~SecretPool() {
    const std::size_t page = page_size();
    for (Byte* chunk : chunks_) {
        wipe(MutableBytes(chunk + page, kChunkPages * page));
        ::munmap(chunk, (kChunkPages + 2) * page);
    }
}

Result<> SecretPool::grow() {
    const std::size_t page = page_size();
    const std::size_t data = kChunkPages * page;
    const std::size_t slots = data / kSlotSize;
    if (chunks_.size() * slots >= max_slots_) return fail(Errc::secrets_full);
    void* mapped = ::mmap(nullptr, data + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return fail(Errc::secrets_full);
    auto* chunk = static_cast<Byte*>(mapped);
    const bool usable = ::mprotect(chunk + page, data, PROT_READ | PROT_WRITE) == 0 &&
                        ::madvise(chunk + page, data, MADV_DONTDUMP) == 0;
    const bool locked = usable && ::mlock(chunk + page, data) == 0;
    if (!usable || (!locked && locking_ == Locking::require)) {
        ::munmap(mapped, data + 2 * page);
        if (!usable) return fail(Errc::secrets_full);
        return fail(chunks_.empty() ? Errc::memory_not_locked : Errc::secrets_full);
    }
    all_locked_ = all_locked_ && locked;
    chunks_.push_back(chunk);
    free_.reserve(chunks_.size() * slots);
    for (std::size_t i = slots; i-- > 0;) free_.push_back(chunk + page + i * kSlotSize);
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
