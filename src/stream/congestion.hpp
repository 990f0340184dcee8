#pragma once

#include "base/time.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace curvegate::stream {

/// How much may be on the way: CUBIC (RFC 9438) with HyStart++ (RFC 9406). Bytes are those of whole messages.
/// Another method takes its place by having the same functions.
class Congestion {
  public:
    static constexpr std::size_t kSegment = 1'088;  ///< the largest message
    static constexpr std::size_t kInitialWindow = 10 * kSegment;
    static constexpr std::size_t kLeastWindow = 2 * kSegment;

    struct Acked {
        std::size_t bytes = 0;     ///< delivered, and not counted before
        Instant newest_sent;       ///< when the latest of them was sent
        std::uint64_t newest = 0;  ///< the latest transmission known to have arrived
        std::uint64_t next = 0;    ///< the transmission that comes next
        std::optional<Duration> round_trip;
        bool window_was_used =
            false;  ///< false: the application did not fill the window, which then does not grow
    };

    [[nodiscard]] std::size_t window() const noexcept { return static_cast<std::size_t>(window_); }
    /// Bytes a second at which a window goes out within `round_trip`.
    [[nodiscard]] double rate(Duration round_trip) const noexcept;
    [[nodiscard]] bool in_slow_start() const noexcept { return window_ < threshold_; }

    void on_acked(const Acked& acked, Duration round_trip, Instant now);
    /// Something that was sent at `sent` is lost. True: it is a new congestion event.
    bool on_lost(Instant sent, Instant now);
    /// All that was sent during a long time is lost (RFC 9002 7.6).
    void on_persistent_congestion();
    /// Another path; losses of what was sent before tell nothing about it.
    void on_new_path(Instant now);

  private:
    void grow_in_slow_start(const Acked& acked);
    void grow_cubic(double segments, Duration round_trip, Instant now);
    void watch_round_trips(const Acked& acked);
    void begin_round(std::uint64_t next);
    void begin_epoch(Instant now);

    // HyStart++ (RFC 9406 4.2)
    struct Round {
        std::uint64_t end = 0;  // over when a transmission from here on is acknowledged
        std::optional<Duration> least;
        std::optional<Duration> least_before;
        unsigned samples = 0;
    };

    double window_ = kInitialWindow;
    double threshold_ = 1e18;
    Deadline recovering_since_;
    // CUBIC, in segments
    double most_ = 0;      // W_max
    double prior_ = 0;     // cwnd_prior
    double estimate_ = 0;  // W_est
    double k_ = 0;         // seconds
    Deadline epoch_;
    Round round_;
    std::optional<Duration> conservative_;  // cssBaselineMinRtt: in conservative slow start
    unsigned conservative_rounds_ = 0;
};

}  // namespace curvegate::stream
