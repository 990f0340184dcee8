#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "stream/errors.hpp"
#include "wire/curvecp_message.hpp"

#include <memory>

/// CurveCP's byte stream on datagrams (PROTOCOL 8 and 9): blocks, acknowledgments, loss detection, congestion
/// control, flow control, both ends. No I/O: opened messages and time go in, messages to be sealed come out.
namespace curvegate::stream {

class ChunkSource;

struct Options {
    std::size_t most_unread =
        std::size_t{4} * 1024 * 1024;  ///< bytes kept for a local side that does not take them
    std::size_t most_unsent =
        std::size_t{4} * 1024 * 1024;  ///< bytes of the local side kept until acknowledged
    Duration keepalive = std::chrono::seconds(20);
    bool off_loopback = true;       ///< trains of at most 16 packets
    std::uint32_t first_id = 1;     ///< of the first message that has an id; not 0
    ChunkSource* chunks = nullptr;  ///< outlives the stream; null: the heap
};

struct Statistics {
    Duration smoothed_rtt{};
    std::size_t window = 0;     ///< congestion window, bytes
    std::size_t in_flight = 0;  ///< bytes
    std::uint64_t lost = 0;     ///< transmissions
    std::uint64_t timeouts = 0;
    std::size_t memory = 0;  ///< bytes of buffers and lists, beside the object itself
};

/// What the peer has told of its direction's end.
enum class Incoming : std::uint8_t {
    open,    ///< more may come
    ended,   ///< end of stream: after readable() nothing comes
    failed,  ///< the same, but the peer's local side was reset
};

class Stream {
  public:
    Stream(const Options& options, Instant now);
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;
    ~Stream();

    // ---- the local side, to the peer ----

    /// Room to write into: contiguous, as large as may be taken now (up to 64 KiB); empty if the peer or the
    /// network is behind, or after finish(). It stays good until the next commit(), whatever comes in
    /// between; commit(0) says that it is not needed, so that an idle stream holds no buffer.
    [[nodiscard]] MutableBytes prepare();
    /// The first `size` bytes of prepare() are written.
    void commit(std::size_t size);
    /// The end of our direction comes after what was written.
    void finish();
    /// Has finish(), fail_after_all() or abort() been called?
    [[nodiscard]] bool outgoing_ended() const;
    [[nodiscard]] bool aborted() const;
    /// Our direction ends after what was written, as a failure. If it has ended already, nothing changes.
    void fail_after_all();
    /// Our direction ends now, as a failure; what was not sent yet is dropped, and its memory given back.
    void abort();

    // ---- the peer, to the local side ----

    /// Bytes in order, contiguous; more may come to light after consume(), until which they stay good.
    [[nodiscard]] Bytes readable() const;
    void consume(std::size_t size);
    /// Nobody reads any more: what has come and what comes is acknowledged and counts as consumed, and none
    /// of it is kept. What readable() gave is no longer good.
    void stop_reading();
    [[nodiscard]] Incoming incoming() const;

    // ---- the network ----

    /// One message of the peer. Error: ack_of_unsent (close the connection).
    [[nodiscard]] Result<> receive(const wire::curvecp::Message& message, Instant now);
    /// Writes the next message that may go now (an acknowledgment, a retransmission, new data, a probe) and
    /// gives its size; 0: nothing now. `out.size()` is the most that the packet takes (640 or 1,088). Call
    /// until 0 after every receive(), commit(), consume(), finish(), and when next_deadline() has come.
    [[nodiscard]] std::size_t next_message(MutableBytes out, Instant now);
    /// When next_message() may have something without any event.
    [[nodiscard]] Deadline next_deadline() const;

    /// Client: until the first message of the server blocks are of at most 512 bytes.
    void limit_blocks(std::size_t most) noexcept;
    /// The next message is sent even if it carries nothing: an empty block with an id, so that the peer
    /// answers.
    void want_ping() noexcept;
    /// Another path: round trip and window start afresh.
    void path_changed(Instant now);

    // ---- what the actor asks ----

    /// Our end was sent and acknowledged, or aborted and acknowledged.
    [[nodiscard]] bool outgoing_done() const;
    /// Both directions have ended, ours is acknowledged, and everything was consumed.
    [[nodiscard]] bool done() const;
    /// Since when we wait for an acknowledgment of anything and have heard nothing; none: we do not wait.
    [[nodiscard]] Deadline silent_since() const;
    [[nodiscard]] bool peer_is_ours() const noexcept;  ///< it has shown our extension
    /// Bytes delivered in order / taken to send, since the start.
    [[nodiscard]] std::uint64_t received() const;
    /// Bytes that the peer has, from the first on.
    [[nodiscard]] std::uint64_t acknowledged() const;
    /// Is there a byte of the local side that may not have arrived yet? Not after abort(): then none counts.
    [[nodiscard]] bool owes_bytes() const;
    [[nodiscard]] std::uint64_t sent() const;
    /// Has a byte of the stream, or its end, ever left in a message?
    [[nodiscard]] bool has_sent_bytes() const;
    using Statistics = stream::Statistics;
    [[nodiscard]] Statistics statistics() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace curvegate::stream
