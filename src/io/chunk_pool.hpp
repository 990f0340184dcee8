#pragma once

#include "stream/chunks.hpp"

#include <vector>

namespace curvegate::io {

/// A worker's memory for streams. The chunk that was given back last is taken first, so that a few warm ones
/// serve all streams that hold little; what is not used soon goes back to the system. Not thread-safe.
class ChunkPool final : public stream::ChunkSource {
  public:
    ChunkPool() = default;
    ~ChunkPool() override;
    [[nodiscard]] Byte* take() override;
    void give(Byte* chunk) noexcept override;

    /// Chunks that are kept with their memory while nobody has them: 4 MiB.
    static constexpr std::size_t kMostWarm = 64;

  private:
    void map();

    std::vector<Byte*> slabs_;
    std::vector<Byte*> warm_;
    std::vector<Byte*> cold_;  // address space only
};

}  // namespace curvegate::io
