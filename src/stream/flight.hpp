#pragma once

#include "base/time.hpp"
#include "stream/ring.hpp"
#include "wire/curvecp_message.hpp"

#include <limits>
#include <optional>

namespace curvegate::stream {

/// Counts transmissions from 0 without end; the id on the wire is its remainder, which is never 0.
using Sequence = std::uint64_t;

/// What is sent and not yet known to have arrived: blocks by position, their transmissions by number, and
/// which of them are lost (RFC 9002 6.1). Holds no bytes of the stream.
class Flight {
  public:
    using BlockNumber = std::uint64_t;  ///< counts blocks from 0
    enum class State : std::uint8_t {
        in_flight,
        named,  ///< its message arrived, but no range covers it yet: kept, not lost, sent again at most as a
                ///< probe
        lost,
        done,
    };
    struct Block {
        std::uint64_t position = 0;
        Sequence latest = 0;
        std::uint16_t length = 0;
        bool carries_end = false;
        State state = State::in_flight;
        [[nodiscard]] std::uint64_t data_end() const noexcept { return position + length; }
        /// What a1 must reach: the end of the stream has a position of its own.
        [[nodiscard]] std::uint64_t end() const noexcept { return data_end() + (carries_end ? 1 : 0); }
    };
    /// What one acknowledgment told.
    struct Progress {
        std::size_t bytes = 0;  ///< of messages, known to have arrived and not counted before
        bool any = false;
        std::optional<Duration> round_trip;
        Instant newest_sent;
    };
    struct Losses {
        std::size_t count = 0;
        Instant newest_sent;
        Duration span{};  ///< between the first and the last of a run in which nothing arrived
    };

    /// `first_id`: of the first transmission, not 0.
    explicit Flight(wire::curvecp::MessageId first_id) noexcept;

    // ---- sending ----

    /// Bytes of the stream.
    struct Piece {
        std::uint64_t position;
        std::size_t length;
        bool carries_end;  ///< the stream ends with it
    };
    BlockNumber add(const Piece& piece);
    /// A transmission of the block in a message of `size` bytes.
    wire::curvecp::MessageId transmit(BlockNumber number, std::size_t size, Instant now);
    /// A transmission without block: it counts for nothing but round trips.
    wire::curvecp::MessageId transmit_ping(Instant now);

    // ---- learning ----

    [[nodiscard]] Progress acknowledge(const wire::curvecp::Message& message, Instant now);
    /// Takes out of flight what is lost by now; next_lost() then gives the blocks.
    [[nodiscard]] Losses detect_losses(Duration loss_delay, Instant now);
    [[nodiscard]] Deadline loss_deadline(Duration loss_delay) const noexcept;

    // ---- asking ----

    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t messages() const noexcept { return messages_; }
    [[nodiscard]] bool has_blocks() const noexcept { return !blocks_.empty(); }
    [[nodiscard]] const Block& block(BlockNumber number) const noexcept { return blocks_[number - first_]; }
    [[nodiscard]] BlockNumber first() const noexcept { return first_; }
    [[nodiscard]] BlockNumber end() const noexcept { return first_ + blocks_.size(); }
    [[nodiscard]] bool has_lost() const noexcept { return to_repeat_ > 0; }
    /// The lost block that goes out next.
    [[nodiscard]] std::optional<BlockNumber> next_lost();
    [[nodiscard]] Sequence newest_arrived() const noexcept { return arrived_ ? *arrived_ : 0; }
    [[nodiscard]] Sequence next() const noexcept { return sent_ + transmissions_.size(); }
    /// Gives memory back. Only without blocks.
    void release() noexcept;
    [[nodiscard]] std::size_t memory() const noexcept;

  private:
    static constexpr BlockNumber kNoBlock = std::numeric_limits<BlockNumber>::max();
    enum class Fate : std::uint8_t { unknown, arrived, settled };
    struct Transmission {
        Instant sent;
        BlockNumber block = kNoBlock;
        std::uint32_t before = 0;  // how much earlier the block's last transmission was; 0: none
        std::uint16_t size = 0;
        Fate fate = Fate::unknown;
    };

    wire::curvecp::MessageId push(Transmission transmission);
    [[nodiscard]] wire::curvecp::MessageId id_of(Sequence sequence) const noexcept;
    [[nodiscard]] std::optional<Sequence> sequence_of(wire::curvecp::MessageId id) const noexcept;
    [[nodiscard]] Transmission* at(Sequence sequence) noexcept;
    [[nodiscard]] Block* block_of(const Transmission& transmission) noexcept;
    void arrive(Sequence sequence, const Transmission& transmission, Progress& out) noexcept;
    void settle(Block& block, State state) noexcept;
    void take_out(Transmission& transmission, Fate fate) noexcept;
    void take_name(wire::curvecp::MessageId id, Instant now, Progress& out);
    void take_prefix(std::uint64_t end, Progress& out);
    void take_range(const wire::curvecp::Range& range, Progress& out);
    void deliver(Block& block, Progress& out);
    void lose(Sequence sequence, Transmission& transmission);

    Ring<Block> blocks_;
    BlockNumber first_ = 0;  // of blocks_
    Ring<Transmission> transmissions_;
    Sequence sent_ = 0;       // of the front of transmissions_
    Ring<BlockNumber> lost_;  // in the order in which it was found out; some may have arrived since
    std::size_t to_repeat_ = 0;
    std::optional<Sequence> arrived_;  // the latest that is known to have arrived
    std::size_t bytes_ = 0;
    std::size_t messages_ = 0;
};

}  // namespace curvegate::stream
