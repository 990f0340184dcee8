#pragma once

#include "base/bytes.hpp"

#include <sys/uio.h>

#include <array>
#include <vector>

namespace curvegate::tunnel {

/// A worker's scratch memory: what is read from sockets lands here and nothing stays in it between two
/// events, so a connection without traffic owns no buffer.
class Scratch {
  public:
    /// Room for four of the longest messages with what their wires put around them.
    static constexpr std::size_t kMostMessages = 4;
    static constexpr std::size_t kOneMessage = 65'664;
    static constexpr std::size_t kMostParts = 64;

    Scratch() : bytes_(kMostMessages * kOneMessage) {}
    [[nodiscard]] MutableBytes bytes() noexcept { return bytes_; }
    /// Parts of bytes(): one list for what is read into them, one for what is written out of them.
    [[nodiscard]] std::array<iovec, kMostMessages>& gaps() noexcept { return gaps_; }
    [[nodiscard]] std::array<iovec, kMostParts>& payloads() noexcept { return payloads_; }

  private:
    std::vector<Byte> bytes_;
    std::array<iovec, kMostMessages> gaps_{};
    std::array<iovec, kMostParts> payloads_{};
};

}  // namespace curvegate::tunnel
