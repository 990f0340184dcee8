#pragma once

#include "base/bytes.hpp"

#include <sodium.h>

#include <memory>
#include <new>

namespace curvegate::vault {

/// Memory for secrets that are text or longer than a SecretPool slot: between guard pages, locked as far as
/// the limit allows, left out of core dumps, wiped when destroyed. Each costs four mappings: for start-up
/// only.
class LockedBuffer {
  public:
    /// Zeroed. Throws std::bad_alloc.
    explicit LockedBuffer(std::size_t size)
        : memory_(static_cast<Byte*>(::sodium_malloc(size))), size_(size) {
        if (memory_ == nullptr) throw std::bad_alloc();
        ::sodium_memzero(memory_.get(), size);  // sodium_malloc fills with a pattern
    }
    [[nodiscard]] MutableBytes bytes() const noexcept { return {memory_.get(), size_}; }

  private:
    struct Free {
        void operator()(Byte* memory) const noexcept { ::sodium_free(memory); }
    };
    std::unique_ptr<Byte, Free> memory_;
    std::size_t size_;
};

}  // namespace curvegate::vault
