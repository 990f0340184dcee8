#pragma once

#include "stream/chunks.hpp"
#include "stream/intervals.hpp"
#include "stream/stream.hpp"

namespace curvegate::stream {

/// The peer's direction of a stream: blocks as they come, bytes in order as they go to the local side, and
/// how far the peer may send.
class Receiver {
  public:
    explicit Receiver(const Options& options) noexcept;

    enum class Taken {
        ignored,   ///< not acknowledged: beyond the limit, against the known end, or no block at all
        repeated,  ///< nothing new in it
        in_order,
        unordered,  ///< behind a hole, or it filled one
        ended,      ///< told the end
        ping,
    };
    [[nodiscard]] Taken take(const wire::curvecp::Message& message);

    [[nodiscard]] Bytes readable() const { return chunks_.view(consumed_, came_.prefix()); }
    void consume(std::size_t size);
    void stop_reading();
    [[nodiscard]] Incoming incoming() const noexcept;
    [[nodiscard]] std::uint64_t received() const noexcept { return came_.prefix(); }
    [[nodiscard]] bool all_consumed() const noexcept { return consumed_ == came_.prefix(); }
    [[nodiscard]] bool has_holes() const noexcept { return came_.has_holes(); }

    /// [0, a1) has come; one more than the length once all came and the end is known.
    [[nodiscard]] std::uint64_t prefix() const noexcept { return came_.prefix() + (has_all() ? 1 : 0); }
    /// Fills in the ranges behind the first.
    void select(std::array<wire::curvecp::Range, wire::curvecp::kRanges>& ranges) const {
        came_.select(ranges);
    }

    /// How far the peer may send; calling it tells the peer.
    [[nodiscard]] std::uint64_t tell_limit() noexcept;
    /// The limit has grown so far that the peer should be told without being asked; at first it knows none.
    [[nodiscard]] bool limit_is_news() const noexcept;

    /// Nothing is buffered, so that release() may follow.
    [[nodiscard]] bool drained() const noexcept { return all_consumed() && !came_.has_holes(); }
    void release() noexcept;
    [[nodiscard]] std::size_t memory() const noexcept { return chunks_.memory() + came_.memory(); }

  private:
    [[nodiscard]] bool has_all() const noexcept { return end_ && came_.prefix() == *end_; }
    [[nodiscard]] bool fits(const wire::curvecp::Message& message) const noexcept;
    Taken take_block(std::uint64_t position, Bytes block);
    void widen() noexcept;
    void discard();

    Chunks chunks_;
    Intervals came_;
    std::uint64_t consumed_ = 0;
    std::optional<std::uint64_t> end_;
    bool failed_ = false;
    bool reading_ = true;  ///< false: nobody takes what comes

    std::uint64_t most_unread_;
    std::uint64_t window_;
    std::uint64_t told_ = 0;
    std::uint64_t widen_at_;  ///< received() at which the window has been used up once more
    bool kept_up_ = true;     ///< the local side has, since the window last grew
};

}  // namespace curvegate::stream
