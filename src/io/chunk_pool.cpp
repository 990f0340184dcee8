#include "io/chunk_pool.hpp"

#include <sys/mman.h>

#include <new>

namespace curvegate::io {
namespace {

constexpr std::size_t kSlabChunks = 16;
constexpr std::size_t kSlab = kSlabChunks * stream::ChunkSource::kChunk;

}  // namespace

ChunkPool::~ChunkPool() {
    for (Byte* slab : slabs_) ::munmap(slab, kSlab);
}

Byte* ChunkPool::take() {
    if (warm_.empty() && cold_.empty()) map();
    auto& from = warm_.empty() ? cold_ : warm_;
    Byte* chunk = from.back();
    from.pop_back();
    return chunk;
}

void ChunkPool::give(Byte* chunk) noexcept {
    if (warm_.size() < kMostWarm) return warm_.push_back(chunk);  // map() reserved room
    (void)::madvise(chunk, kChunk, MADV_DONTNEED);
    cold_.push_back(chunk);
}

// One mapping for many chunks: a process may have a limited number of mappings only.
void ChunkPool::map() {
    const std::size_t chunks = (slabs_.size() + 1) * kSlabChunks;
    slabs_.reserve(slabs_.size() + 1);
    cold_.reserve(chunks);
    warm_.reserve(kMostWarm);
    void* mapped = ::mmap(nullptr, kSlab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    // With huge pages the first byte of a chunk would cost more than all chunks beside it.
    (void)::madvise(mapped, kSlab, MADV_NOHUGEPAGE);
    auto* slab = static_cast<Byte*>(mapped);
    slabs_.push_back(slab);
    for (std::size_t i = kSlabChunks; i-- > 0;) cold_.push_back(slab + i * kChunk);
}

}  // namespace curvegate::io
