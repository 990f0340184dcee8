#pragma once

#include "wire/curvecp_message.hpp"

#include <array>
#include <vector>

namespace curvegate::stream {

/// Which bytes of a stream have come: all before prefix(), and intervals behind holes, whose edges are edges
/// of blocks as they came (PROTOCOL 9.1).
class Intervals {
  public:
    /// A range's size field has 16 bits, and 63 full blocks fit.
    static constexpr std::uint64_t kLongest = 64'512;
    /// More holes than this are not remembered: what would make one more is as good as lost.
    static constexpr std::size_t kMost = 4'096;

    enum class Added {
        nothing,   ///< all of it had come before
        in_order,  ///< from prefix() on
        behind,    ///< behind a hole
        refused,   ///< one hole too many
    };
    /// Bytes [begin, end), begin < end.
    Added add(std::uint64_t begin, std::uint64_t end);

    [[nodiscard]] std::uint64_t prefix() const noexcept { return prefix_; }
    /// The end of all that has come.
    [[nodiscard]] std::uint64_t highest() const noexcept {
        return behind_.empty() ? prefix_ : behind_.back().end;
    }
    [[nodiscard]] bool has_holes() const noexcept { return !behind_.empty(); }
    [[nodiscard]] bool holds(std::uint64_t begin, std::uint64_t end) const noexcept;

    /// Fills ranges[1] on with those that changed last, ascending and fit for their fields. ranges[0] is not
    /// touched.
    void select(std::array<wire::curvecp::Range, wire::curvecp::kRanges>& ranges) const;
    /// Gives memory back that nothing stands in.
    void release() noexcept {
        if (behind_.empty()) behind_.shrink_to_fit();
    }
    [[nodiscard]] std::size_t memory() const noexcept {
        return behind_.capacity() * sizeof(wire::curvecp::Range);
    }

  private:
    void advance(std::uint64_t end);
    void remember(std::uint64_t begin) noexcept;
    [[nodiscard]] const wire::curvecp::Range* beginning_at(std::uint64_t begin) const noexcept;

    std::uint64_t prefix_ = 0;
    std::vector<wire::curvecp::Range> behind_;  // ascending, disjoint, each of at most kLongest bytes
    std::array<std::uint64_t, 6> recent_{};     // where those begin that changed last; 0: none
};

}  // namespace curvegate::stream
