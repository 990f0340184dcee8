#pragma once

#include "stream/chunks.hpp"
#include "stream/congestion.hpp"
#include "stream/echo_guard.hpp"
#include "stream/flight.hpp"
#include "stream/pacer.hpp"
#include "stream/round_trip.hpp"
#include "stream/stream.hpp"

namespace curvegate::stream {

/// Our direction of a stream: what the local side wrote, in blocks that go out when window, pace and the
/// peer's limit allow it, and go out again until the peer has them. Times passed in never decrease.
class Sender {
  public:
    explicit Sender(const Options& options) noexcept;

    // ---- the local side; as in Stream ----

    [[nodiscard]] MutableBytes prepare();
    void commit(std::size_t size);
    void finish();
    void fail_after_all();
    void abort();

    // ---- the peer ----

    /// Whether `message` acknowledges nothing but what was sent. Error: ack_of_unsent.
    [[nodiscard]] Result<> check(const wire::curvecp::Message& message) const;
    /// Takes the ranges, the named id and the limit of a checked message.
    void take(const wire::curvecp::Message& message, Instant now);

    /// The peer's stream has grown by `bytes`.
    void on_received(std::uint64_t bytes, Instant now) noexcept {
        echo_guard_.on_received(bytes, sent_, now);
    }

    // ---- the network ----

    /// The next block or ping that may go now: fills id, end, position and block of `message`, whose block's
    /// bytes stand where they belong in `out`. Gives the message's size, 0: nothing now.
    [[nodiscard]] std::size_t next(wire::curvecp::Message& message, MutableBytes out, Instant now);
    /// When next() may have something without any event.
    [[nodiscard]] Deadline deadline() const;

    void limit_blocks(std::size_t most) noexcept { most_block_ = most; }
    void want_ping() noexcept { ping_wanted_ = true; }
    void on_new_path(Instant now);

    // ---- asking ----

    [[nodiscard]] bool ended() const noexcept { return end_ != wire::curvecp::StreamEnd::none; }
    [[nodiscard]] bool aborted() const noexcept { return aborted_; }
    [[nodiscard]] bool done() const noexcept { return end_sent_ && !flight_.has_blocks(); }
    /// An acknowledgment of something is due.
    [[nodiscard]] bool waits() const noexcept { return flight_.has_blocks() || ping_waits_; }
    [[nodiscard]] bool peer_is_ours() const noexcept { return peer_is_ours_; }
    [[nodiscard]] std::uint64_t acknowledged() const noexcept;
    [[nodiscard]] std::uint64_t written() const noexcept { return written_; }
    [[nodiscard]] bool has_sent_bytes() const noexcept { return sent_ > 0 || end_sent_; }
    [[nodiscard]] Statistics statistics() const noexcept;
    /// Nothing is buffered, so that release() may follow.
    [[nodiscard]] bool drained() const noexcept;
    void release() noexcept;
    [[nodiscard]] std::size_t memory() const noexcept { return chunks_.memory() + flight_.memory(); }

  private:
    [[nodiscard]] std::uint64_t limit() const noexcept;
    [[nodiscard]] std::size_t next_block_size(std::size_t most) const noexcept;
    [[nodiscard]] bool end_is_next() const noexcept;
    [[nodiscard]] bool blocked_by_peer() const noexcept;
    [[nodiscard]] Deadline echo_guard_deadline() const noexcept;
    [[nodiscard]] bool window_open(std::size_t size) const noexcept;
    [[nodiscard]] bool too_many_blocks() const noexcept;
    [[nodiscard]] double pace() const noexcept;
    [[nodiscard]] double train() const noexcept;
    [[nodiscard]] Duration backed_off(unsigned times) const noexcept;
    [[nodiscard]] Deadline probe_deadline() const noexcept;
    [[nodiscard]] Deadline pace_deadline() const;

    void drop_unsent();
    void look_at_clock(Instant now);
    void find_losses(Instant now);
    void on_probe_timeout(Instant now);
    [[nodiscard]] std::size_t send_probe(wire::curvecp::Message& message, MutableBytes out, Instant now);
    [[nodiscard]] std::size_t send_ping(wire::curvecp::Message& message, Instant now);
    [[nodiscard]] std::size_t send_new(wire::curvecp::Message& message, MutableBytes out, Instant now);
    [[nodiscard]] std::size_t send_block(Flight::BlockNumber number, wire::curvecp::Message& message,
                                         MutableBytes out, Instant now);

    // what the local side wrote
    Chunks chunks_;
    std::size_t most_unsent_;
    std::uint64_t written_ = 0;  ///< bytes committed, less what abort() dropped
    std::uint64_t sent_ = 0;     ///< bytes that have left at least once
    wire::curvecp::StreamEnd end_ = wire::curvecp::StreamEnd::none;
    bool end_sent_ = false;
    bool aborted_ = false;
    bool prepared_ = false;  ///< somebody may be writing into the last chunk
    bool full_ = false;

    // what the peer allows
    std::uint64_t peer_limit_ = 0;
    bool peer_is_ours_ = false;
    std::size_t most_block_ = wire::curvecp::kMaxBlock;
    bool off_loopback_;
    EchoGuard echo_guard_;

    Flight flight_;
    RoundTrip round_trip_;
    Congestion congestion_;
    Pacer pacer_;

    // probes
    unsigned probes_ = 0;             ///< that may go now whatever the window
    Flight::BlockNumber probed_ = 0;  ///< where the next one looks for a block
    bool rescue_ = false;             ///< one lost block may go at once when losses begin (RFC 9002 7.3.2)
    unsigned timeouts_in_a_row_ = 0;
    unsigned limit_probes_ = 0;  ///< since the peer's limit stops us
    bool ping_wanted_ = false;
    bool ping_waits_ = false;
    Instant last_sent_;
    Instant last_progress_;

    std::uint64_t lost_ = 0;
    std::uint64_t timeouts_ = 0;
};

}  // namespace curvegate::stream
