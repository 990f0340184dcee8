#pragma once

#include "base/random.hpp"

namespace curvegate::os {

/// getrandom(2). Ends the process if the kernel has no random bytes to give: nothing may go on without.
class SystemRandom final : public RandomSource {
  public:
    void fill(MutableBytes out) override;
};

}  // namespace curvegate::os
