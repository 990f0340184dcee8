#pragma once

#include "base/bytes.hpp"
#include "stream/ring.hpp"

#include <memory>

namespace curvegate::stream {

/// Bytes of a stream by their position, in chunks that come with the first byte written into them and go with
/// the last one dropped. A chunk never moves, so that a span into it stays good until its bytes are dropped.
class Chunks {
  public:
    static constexpr std::size_t kChunk = std::size_t{64} * 1024;

    /// Room from `position` to the end of its chunk; at least one byte.
    [[nodiscard]] MutableBytes room(std::uint64_t position);
    void write(std::uint64_t position, Bytes bytes);
    /// Copies bytes that were written.
    void read(std::uint64_t position, MutableBytes out) const;
    /// Bytes from `position` on that lie in one chunk, up to `end`.
    [[nodiscard]] Bytes view(std::uint64_t position, std::uint64_t end) const;

    /// Nothing before `position` is needed any more. One chunk is kept to be used again.
    void drop_before(std::uint64_t position);
    /// Nothing is needed; the next byte written is at `position` or later.
    void restart(std::uint64_t position);
    /// Gives all memory back. Only after restart().
    void release() noexcept;
    [[nodiscard]] std::size_t memory() const noexcept;

  private:
    using Chunk = std::unique_ptr<Byte[]>;

    [[nodiscard]] Byte* chunk_at(std::size_t index);
    void retire(Chunk chunk) noexcept;

    Ring<Chunk> chunks_;  // the first begins at base_; one may be missing where nothing was written yet
    Chunk spare_;
    std::uint64_t base_ = 0;
};

}  // namespace curvegate::stream
