#include "stream/chunks.hpp"

namespace curvegate::stream {

namespace {

class Heap final : public ChunkSource {
    Byte* take() override { return new Byte[kChunk]; }
    void give(Byte* chunk) noexcept override { delete[] chunk; }
};

}  // namespace

ChunkSource& heap_chunks() noexcept {
    static Heap heap;
    return heap;
}

Byte* Chunks::chunk_at(std::size_t index) {
    while (chunks_.size() <= index) chunks_.push_back(nullptr);
    auto& chunk = chunks_[index];
    if (!chunk) chunk = Chunk(source_->take(), GiveBack{source_});
    return chunk.get();
}

MutableBytes Chunks::room(std::uint64_t position) {
    const std::uint64_t offset = position - base_;
    const std::size_t within = offset % kChunk;
    return {chunk_at(offset / kChunk) + within, kChunk - within};
}

void Chunks::write(std::uint64_t position, Bytes bytes) {
    while (!bytes.empty()) {
        const auto part = room(position);
        const std::size_t size = std::min(part.size(), bytes.size());
        std::memcpy(part.data(), bytes.data(), size);
        position += size;
        bytes = bytes.subspan(size);
    }
}

void Chunks::read(std::uint64_t position, MutableBytes out) const {
    while (!out.empty()) {
        const auto part = view(position, position + out.size());
        std::memcpy(out.data(), part.data(), part.size());
        position += part.size();
        out = out.subspan(part.size());
    }
}

Bytes Chunks::view(std::uint64_t position, std::uint64_t end) const {
    if (position >= end) return {};
    const std::uint64_t offset = position - base_;
    const std::size_t within = offset % kChunk;
    return {chunks_[offset / kChunk].get() + within,
            static_cast<std::size_t>(std::min<std::uint64_t>(kChunk - within, end - position))};
}

void Chunks::drop_before(std::uint64_t position) {
    while (!chunks_.empty() && position - base_ >= kChunk) {
        chunks_.pop_front();
        base_ += kChunk;
    }
    if (chunks_.empty()) base_ = position;
}

void Chunks::drop_from(std::uint64_t position) {
    const std::uint64_t kept = (position - base_ + kChunk - 1) / kChunk;
    while (chunks_.size() > kept) chunks_.pop_back();
}

void Chunks::restart(std::uint64_t position) {
    chunks_.clear();
    base_ = position;
}

std::size_t Chunks::memory() const noexcept {
    std::size_t held = 0;
    for (std::size_t i = 0; i < chunks_.size(); ++i) held += chunks_[i] ? 1 : 0;
    return held * kChunk + chunks_.capacity() * sizeof(Chunk);
}

}  // namespace curvegate::stream
