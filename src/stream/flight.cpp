#include "stream/flight.hpp"

namespace curvegate::stream {

using wire::curvecp::Message;
using wire::curvecp::MessageId;
using wire::curvecp::Range;

namespace {

// Ids 1 to 2^32-1, then 1 again.
constexpr std::uint64_t kIds = std::numeric_limits<std::uint32_t>::max();
constexpr Sequence kPacketThreshold = 3;  // RFC 9002 6.1.1

}  // namespace

Flight::Flight(MessageId first_id) noexcept : sent_(first_id.value - 1) {}

MessageId Flight::id_of(Sequence sequence) const noexcept {
    return {static_cast<std::uint32_t>(sequence % kIds + 1)};
}

Flight::Transmission* Flight::at(Sequence sequence) noexcept {
    if (sequence < sent_ || sequence >= next()) return nullptr;
    return &transmissions_[sequence - sent_];
}

std::optional<Sequence> Flight::sequence_of(MessageId id) const noexcept {
    if (transmissions_.empty()) return std::nullopt;
    const Sequence newest = next() - 1;
    const std::uint64_t back = (newest % kIds + kIds - (id.value - 1)) % kIds;
    if (back > newest - sent_) return std::nullopt;
    return newest - back;
}

Flight::Block* Flight::block_of(const Transmission& transmission) noexcept {
    if (transmission.block == kNoBlock || transmission.block < first_) return nullptr;
    return &blocks_[transmission.block - first_];
}

// ---- sending ----

Flight::BlockNumber Flight::add(const Piece& piece) {
    blocks_.push_back({.position = piece.position,
                       .latest = next(),
                       .length = static_cast<std::uint16_t>(piece.length),
                       .carries_end = piece.carries_end});
    return end() - 1;
}

MessageId Flight::push(Transmission transmission) {
    const auto id = id_of(next());
    transmissions_.push_back(transmission);
    return id;
}

MessageId Flight::transmit(BlockNumber number, std::size_t size, Instant now) {
    auto& block = blocks_[number - first_];
    const std::uint64_t before = next() - block.latest;
    block.latest = next();
    if (block.state == State::lost) settle(block, State::in_flight);
    bytes_ += size;
    ++messages_;
    return push({.sent = now,
                 .block = number,
                 .before = static_cast<std::uint32_t>(std::min<std::uint64_t>(before, kIds)),
                 .size = static_cast<std::uint16_t>(size)});
}

MessageId Flight::transmit_ping(Instant now) {
    return push({.sent = now});
}

// ---- learning ----

void Flight::settle(Block& block, State state) noexcept {
    if (block.state == State::lost) --to_repeat_;
    if (state == State::lost) ++to_repeat_;
    block.state = state;
}

void Flight::take_out(Transmission& transmission, Fate fate) noexcept {
    if (transmission.fate == Fate::unknown && transmission.block != kNoBlock) {
        bytes_ -= transmission.size;
        --messages_;
    }
    transmission.fate = fate;
}

void Flight::arrive(Sequence sequence, const Transmission& transmission, Progress& out) noexcept {
    if (!arrived_ || sequence > *arrived_) arrived_ = sequence;
    out.newest_sent = std::max(out.newest_sent, transmission.sent);
}

Flight::Progress Flight::acknowledge(const Message& message, Instant now) {
    Progress out;
    if (message.acked_id.value != 0) take_name(message.acked_id, now, out);
    take_prefix(message.acked[0].end, out);
    for (std::size_t i = 1; i < message.acked.size(); ++i) {
        if (message.acked[i].begin < message.acked[i].end) take_range(message.acked[i], out);
    }
    return out;
}

void Flight::take_name(MessageId id, Instant now, Progress& out) {
    const auto sequence = sequence_of(id);
    if (!sequence) return;
    auto& transmission = *at(*sequence);
    if (transmission.fate != Fate::unknown) return;
    out.round_trip = now - transmission.sent;
    out.any = true;
    out.bytes += transmission.size;
    arrive(*sequence, transmission, out);
    take_out(transmission, Fate::arrived);
    auto* block = block_of(transmission);
    if (block != nullptr && block->state != State::done) settle(*block, State::named);
}

// The block has arrived. Which of several transmissions did it is known only if the last one was named.
void Flight::deliver(Block& block, Progress& out) {
    const bool counted = block.state == State::named;
    settle(block, State::done);
    out.any = true;
    auto* latest = at(block.latest);
    if (latest == nullptr || latest->fate != Fate::unknown) return;
    if (!counted) out.bytes += latest->size;
    out.newest_sent = std::max(out.newest_sent, latest->sent);
    if (latest->before == 0) {
        arrive(block.latest, *latest, out);
        take_out(*latest, Fate::arrived);
        return;
    }
    for (Sequence sequence = block.latest; auto* one = at(sequence); sequence -= one->before) {
        if (one->fate == Fate::unknown) take_out(*one, Fate::settled);
        if (one->before == 0) break;
    }
}

void Flight::take_prefix(std::uint64_t end, Progress& out) {
    while (!blocks_.empty() && (blocks_.front().state == State::done || blocks_.front().end() <= end)) {
        if (blocks_.front().state != State::done) deliver(blocks_.front(), out);
        blocks_.pop_front();
        ++first_;
    }
}

void Flight::take_range(const Range& range, Progress& out) {
    std::size_t low = 0;
    for (std::size_t high = blocks_.size(); low < high;) {
        const std::size_t middle = low + (high - low) / 2;
        if (blocks_[middle].position < range.begin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < blocks_.size() && blocks_[low].data_end() <= range.end; ++low) {
        auto& block = blocks_[low];
        if (block.state == State::done || block.length == 0) continue;
        // PROTOCOL 8.2: the end of the stream is acknowledged by a1 alone.
        if (block.carries_end && block.state == State::named) continue;
        deliver(block, out);
        if (block.carries_end) settle(block, State::named);
    }
    take_prefix(0, out);
}

void Flight::lose(Sequence sequence, Transmission& transmission) {
    take_out(transmission, Fate::settled);
    auto* block = block_of(transmission);
    if (block == nullptr || block->latest != sequence || block->state != State::in_flight) return;
    settle(*block, State::lost);
    lost_.push_back(transmission.block);
}

Flight::Losses Flight::detect_losses(Duration loss_delay, Instant now) {
    Losses out;
    bool in_run = false;
    Instant run_began;
    for (; !transmissions_.empty(); transmissions_.pop_front(), ++sent_) {
        auto& one = transmissions_.front();
        if (one.fate == Fate::arrived) in_run = false;
        if (one.fate != Fate::unknown) continue;
        if (!arrived_ || sent_ >= *arrived_) break;
        if (sent_ + kPacketThreshold > *arrived_ && one.sent + loss_delay > now) break;
        if (one.block != kNoBlock) {
            ++out.count;
            out.newest_sent = one.sent;
            if (!std::exchange(in_run, true)) run_began = one.sent;
            out.span = std::max(out.span, one.sent - run_began);
        }
        lose(sent_, one);
    }
    return out;
}

Deadline Flight::loss_deadline(Duration loss_delay) const noexcept {
    if (transmissions_.empty() || !arrived_ || sent_ >= *arrived_) return std::nullopt;
    return transmissions_.front().sent + loss_delay;
}

// ---- asking ----

std::optional<Flight::BlockNumber> Flight::next_lost() {
    if (!has_lost()) return std::nullopt;
    while (lost_.front() < first_ || block(lost_.front()).state != State::lost) lost_.pop_front();
    return lost_.front();
}

void Flight::release() noexcept {
    sent_ = next();
    transmissions_.clear();
    lost_.clear();
    bytes_ = 0;
    messages_ = 0;
    transmissions_.release();
    blocks_.release();
    lost_.release();
}

std::size_t Flight::memory() const noexcept {
    return blocks_.capacity() * sizeof(Block) + transmissions_.capacity() * sizeof(Transmission) +
           lost_.capacity() * sizeof(BlockNumber);
}

}  // namespace curvegate::stream
