#pragma once

#include "base/bytes.hpp"

#include <optional>

namespace curvegate {

/// Where memory for secrets comes from. The core takes one as an argument: os::secret_pages() in the
/// programs.
class SecretPages {
  public:
    virtual ~SecretPages() = default;

    /// Zeroed bytes, 16 KiB or more and the same number each time. They are the caller's until it gives them
    /// back.
    struct Chunk {
        MutableBytes bytes;
        bool locked = false;  ///< kept out of swap
    };
    /// Returns nullopt if there is no memory.
    [[nodiscard]] virtual std::optional<Chunk> take() = 0;
    /// Takes back what take() gave. The caller has wiped it.
    virtual void give(MutableBytes bytes) noexcept = 0;
};

}  // namespace curvegate
