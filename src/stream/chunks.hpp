#pragma once

#include "base/bytes.hpp"
#include "stream/ring.hpp"

#include <memory>

namespace curvegate::stream {

/// Where the memory of streams comes from and goes back to.
class ChunkSource {
  public:
    static constexpr std::size_t kChunk = std::size_t{64} * 1024;

    ChunkSource() = default;
    ChunkSource(const ChunkSource&) = delete;
    ChunkSource& operator=(const ChunkSource&) = delete;
    virtual ~ChunkSource() = default;
    /// kChunk bytes, whatever they hold.
    [[nodiscard]] virtual Byte* take() = 0;
    virtual void give(Byte* chunk) noexcept = 0;
};
/// From the heap, each by itself.
[[nodiscard]] ChunkSource& heap_chunks() noexcept;

/// Bytes of a stream by their position, in chunks that come with the first byte written into them and go with
/// the last one dropped. A chunk never moves, so that a span into it stays good until its bytes are dropped.
class Chunks {
  public:
    static constexpr std::size_t kChunk = ChunkSource::kChunk;

    /// `source` outlives it.
    explicit Chunks(ChunkSource& source) noexcept : source_(&source) {}

    /// Room from `position` to the end of its chunk; at least one byte.
    [[nodiscard]] MutableBytes room(std::uint64_t position);
    void write(std::uint64_t position, Bytes bytes);
    /// Copies bytes that were written.
    void read(std::uint64_t position, MutableBytes out) const;
    /// Bytes from `position` on that lie in one chunk, up to `end`.
    [[nodiscard]] Bytes view(std::uint64_t position, std::uint64_t end) const;

    /// Nothing before `position` is needed any more.
    void drop_before(std::uint64_t position);
    /// Nothing from `position` on is needed any more.
    void drop_from(std::uint64_t position);
    /// Nothing is needed; the next byte written is at `position` or later.
    void restart(std::uint64_t position);
    /// Gives the list's memory back, too. Only after restart().
    void release() noexcept { chunks_.release(); }
    [[nodiscard]] std::size_t memory() const noexcept;

  private:
    struct GiveBack {
        ChunkSource* source = nullptr;
        void operator()(Byte* chunk) const noexcept { source->give(chunk); }
    };
    using Chunk = std::unique_ptr<Byte[], GiveBack>;

    [[nodiscard]] Byte* chunk_at(std::size_t index);

    ChunkSource* source_;
    Ring<Chunk> chunks_;  // the first begins at base_; one may be missing where nothing was written yet
    std::uint64_t base_ = 0;
};

}  // namespace curvegate::stream
