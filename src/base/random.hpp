#pragma once

#include "base/bytes.hpp"

namespace curvegate {

/// Where random bytes come from. The core takes one as an argument: os::SystemRandom in the programs,
/// a recorded or seeded one in tests.
class RandomSource {
  public:
    virtual ~RandomSource() = default;
    virtual void fill(MutableBytes out) = 0;
};

}  // namespace curvegate
