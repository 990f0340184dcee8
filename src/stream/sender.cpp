#include "stream/sender.hpp"

namespace curvegate::stream {

using wire::curvecp::Message;
using wire::curvecp::StreamEnd;

namespace {

// What a peer of another kind holds: 131,072 bytes and 64 messages (PROTOCOL 9.4).
constexpr std::uint64_t kForeignUnacknowledged = 131'072;
constexpr std::size_t kForeignMessages = 60;
constexpr Duration kShortPath = std::chrono::milliseconds(5);

constexpr double kTrainTime = 0.001;  // seconds
constexpr double kLeastTrain = 2.0 * Congestion::kSegment;
constexpr double kMostTrainOffLoopback = 16.0 * Congestion::kSegment;
constexpr double kMostTrain = 64.0 * Congestion::kSegment;

constexpr Duration kLongestProbeWait = std::chrono::seconds(10);
constexpr unsigned kPersistent = 2;       // timeouts in a row after which one probe goes, not two
constexpr int kPersistentCongestion = 3;  // RFC 9002 7.6.1
constexpr std::size_t kWorthReading = std::size_t{64} * 1024;
constexpr std::size_t kMostBlocks = 16'384;
constexpr std::size_t kLeastUnsent = std::size_t{256} * 1024;

}  // namespace

Sender::Sender(const Options& options) noexcept
    : chunks_(options.chunks != nullptr ? *options.chunks : heap_chunks()),
      most_unsent_(options.most_unsent),
      off_loopback_(options.off_loopback),
      flight_({options.first_id}) {}

// ---- the local side ----

std::uint64_t Sender::acknowledged() const noexcept {
    return flight_.has_blocks() ? flight_.block(flight_.first()).position : sent_;
}

MutableBytes Sender::prepare() {
    if (end_ != StreamEnd::none) return {};
    const std::uint64_t held = written_ - acknowledged();
    // Two windows are enough to go on when one has been acknowledged; more would only wait here.
    const std::size_t most = std::min(most_unsent_, std::max(kLeastUnsent, 2 * congestion_.window()));
    const std::size_t room = held < most ? most - held : 0;
    // Full, it waits until there is room for a read of some size.
    if (room < (full_ ? std::min(kWorthReading, most / 4) : 1)) {
        full_ = true;
        return {};
    }
    full_ = false;
    prepared_ = true;
    const auto out = chunks_.room(written_);
    return out.first(std::min(out.size(), room));
}

void Sender::commit(std::size_t size) {
    prepared_ = false;
    if (end_ == StreamEnd::none) written_ += size;
    if (aborted()) return drop_unsent();
    if (size == 0 && drained()) chunks_.restart(written_);
}

void Sender::finish() {
    if (end_ == StreamEnd::none) end_ = StreamEnd::eof;
}

void Sender::fail_after_all() {
    if (end_ == StreamEnd::none) end_ = StreamEnd::failure;
}

void Sender::abort() {
    aborted_ = true;
    if (!end_sent_) written_ = sent_;
    end_ = StreamEnd::failure;
    drop_unsent();
}

void Sender::drop_unsent() {
    if (prepared_) return;  // commit() comes back to it
    if (drained()) {
        chunks_.restart(written_);
    } else {
        chunks_.drop_from(written_);
    }
}

bool Sender::drained() const noexcept {
    return !prepared_ && sent_ == written_ && !flight_.has_blocks();
}

void Sender::release() noexcept {
    chunks_.restart(written_);
    chunks_.release();
    flight_.release();
}

// ---- the peer ----

Result<> Sender::check(const Message& message) const {
    const std::uint64_t most = sent_ + (end_sent_ ? 1 : 0);
    for (const auto& range : message.acked) {
        if (range.begin < range.end && range.end > most) return fail(Errc::ack_of_unsent);
    }
    return {};
}

void Sender::take(const Message& message, Instant now) {
    if (message.extension) {
        peer_is_ours_ = true;
        if (message.extension->limit > peer_limit_) limit_probes_ = 0;
        peer_limit_ = std::max(peer_limit_, message.extension->limit);
    }
    if (std::exchange(ping_waits_, false)) timeouts_in_a_row_ = 0;  // somebody is there
    const std::size_t before = flight_.bytes();
    const auto progress = flight_.acknowledge(message, now);
    if (progress.any) {
        timeouts_in_a_row_ = 0;
        probes_ = 0;
        last_progress_ = now;
    }
    if (progress.round_trip) round_trip_.take(*progress.round_trip);
    if (progress.any) {
        const std::size_t window = congestion_.window();
        const bool used = before + 3 * Congestion::kSegment >= window ||
                          (congestion_.in_slow_start() && before >= window / 2);
        congestion_.on_acked({.bytes = progress.bytes,
                              .newest_sent = progress.newest_sent,
                              .newest = flight_.newest_arrived(),
                              .next = flight_.next(),
                              .round_trip = progress.round_trip,
                              .window_was_used = used},
                             round_trip_.smoothed(), now);
        find_losses(now);
        chunks_.drop_before(acknowledged());
        if (drained()) chunks_.restart(written_);
    }
}

void Sender::find_losses(Instant now) {
    const auto losses = flight_.detect_losses(round_trip_.loss_delay(), now);
    if (losses.count == 0) return;
    lost_ += losses.count;
    if (congestion_.on_lost(losses.newest_sent, now)) rescue_ = true;
    if (round_trip_.known() && losses.span > kPersistentCongestion * round_trip_.probe_timeout())
        congestion_.on_persistent_congestion();
}

void Sender::on_new_path(Instant now) {
    round_trip_.forget();
    congestion_.on_new_path(now);
    timeouts_in_a_row_ = 0;
    limit_probes_ = 0;
}

// ---- what may go ----

std::uint64_t Sender::limit() const noexcept {
    if (peer_is_ours_) return peer_limit_;
    const std::uint64_t buffered = acknowledged() + kForeignUnacknowledged;
    return echo_guard_.active() ? std::min(buffered, echo_guard_.limit()) : buffered;
}

// Of the next new block; 0: none. `most`: what the packet takes.
std::size_t Sender::next_block_size(std::size_t most) const noexcept {
    const std::uint64_t allowed = limit();
    if (sent_ >= written_ || sent_ >= allowed) return 0;
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>({written_ - sent_, most_block_, most}));
    if (wanted <= allowed - sent_) return wanted;
    // A limit that leaves room for less than a block is worth it only if nothing else is on the way.
    return flight_.has_blocks() ? 0 : static_cast<std::size_t>(allowed - sent_);
}

bool Sender::end_is_next() const noexcept {
    return end_ != StreamEnd::none && !end_sent_ && sent_ == written_;
}

bool Sender::blocked_by_peer() const noexcept {
    return peer_is_ours_ && !flight_.has_blocks() && sent_ < written_ && sent_ >= peer_limit_;
}

Deadline Sender::echo_guard_deadline() const noexcept {
    if (peer_is_ours_ || !echo_guard_.active() || sent_ >= written_) return std::nullopt;
    if (sent_ + most_block_ <= echo_guard_.limit()) return std::nullopt;
    return echo_guard_.gives_way_at(round_trip_.smoothed());
}

bool Sender::window_open(std::size_t size) const noexcept {
    if (flight_.bytes() == 0) return true;
    // On a short path all that is on the way may stand in the peer's queue at once.
    if (!peer_is_ours_ && round_trip_.smoothed() < kShortPath && flight_.messages() >= kForeignMessages)
        return false;
    return flight_.bytes() + size <= congestion_.window();
}

// A peer that names blocks and acknowledges no byte, while our side writes single bytes, would have us keep
// one for each.
bool Sender::too_many_blocks() const noexcept {
    return flight_.end() - flight_.first() >= kMostBlocks;
}

double Sender::pace() const noexcept {
    return congestion_.rate(round_trip_.smoothed());
}

double Sender::train() const noexcept {
    if (!round_trip_.known()) return Congestion::kInitialWindow;
    return std::clamp(pace() * kTrainTime, kLeastTrain, off_loopback_ ? kMostTrainOffLoopback : kMostTrain);
}

// ---- time ----

Duration Sender::backed_off(unsigned times) const noexcept {
    const Duration once = round_trip_.probe_timeout();
    const unsigned shift = std::min(times, 16U);
    return once >= kLongestProbeWait / (1U << shift) ? kLongestProbeWait : once * (1U << shift);
}

Deadline Sender::probe_deadline() const noexcept {
    if (flight_.has_blocks()) return std::max(last_sent_, last_progress_) + backed_off(timeouts_in_a_row_);
    if (ping_waits_) return last_sent_ + backed_off(timeouts_in_a_row_);
    if (blocked_by_peer()) return std::max(last_sent_, last_progress_) + backed_off(limit_probes_);
    return std::nullopt;
}

Deadline Sender::pace_deadline() const {
    if (!flight_.has_lost() && next_block_size(wire::curvecp::kMaxBlock) == 0 && !end_is_next())
        return std::nullopt;
    if (!window_open(Congestion::kSegment) || too_many_blocks()) return std::nullopt;
    return pacer_.next(pace(), train());
}

Deadline Sender::deadline() const {
    Deadline out;
    for (const auto& one : {flight_.loss_deadline(round_trip_.loss_delay()), probe_deadline(),
                            pace_deadline(), echo_guard_deadline()}) {
        if (one && (!out || *one < *out)) out = one;
    }
    return out;
}

void Sender::look_at_clock(Instant now) {
    const auto loss = flight_.loss_deadline(round_trip_.loss_delay());
    if (loss && *loss <= now) find_losses(now);
    const auto guard = echo_guard_deadline();
    if (guard && *guard <= now) echo_guard_.give_way(sent_, now);
    const auto probe = probe_deadline();
    if (probe && *probe <= now && probes_ == 0) on_probe_timeout(now);
}

void Sender::on_probe_timeout(Instant now) {
    last_sent_ = now;  // the timer runs anew even if the probe finds no room
    if (flight_.has_blocks()) {
        ++timeouts_;
        probes_ = timeouts_in_a_row_ < kPersistent ? 2 : 1;
        probed_ = flight_.first();
        ++timeouts_in_a_row_;
        return;
    }
    if (!ping_waits_) ++limit_probes_;
    if (ping_waits_) ++timeouts_in_a_row_;
    ping_wanted_ = true;
}

// ---- sending ----

std::size_t Sender::next(Message& message, MutableBytes out, Instant now) {
    look_at_clock(now);
    if (probes_ > 0) {
        if (const auto size = send_probe(message, out, now); size != 0) return size;
    }
    if (const auto lost = flight_.next_lost()) {
        const std::size_t size = wire::curvecp::message_size(flight_.block(*lost).length);
        const bool may =
            std::exchange(rescue_, false) || (window_open(size) && pacer_.ready(now, pace(), train()));
        if (may && size <= out.size()) return send_block(*lost, message, out, now);
    } else if (const auto size = send_new(message, out, now); size != 0) {
        return size;
    }
    return ping_wanted_ ? send_ping(message, now) : 0;
}

std::size_t Sender::send_new(Message& message, MutableBytes out, Instant now) {
    const std::size_t most = out.size() - std::min(out.size(), wire::curvecp::message_size(0));
    const std::size_t length = next_block_size(most);
    if ((length == 0 && !end_is_next()) || too_many_blocks()) return 0;
    if (!window_open(wire::curvecp::message_size(length)) || !pacer_.ready(now, pace(), train())) return 0;
    const bool ends = end_ != StreamEnd::none && sent_ + length == written_;
    const auto number = flight_.add({.position = sent_, .length = length, .carries_end = ends});
    sent_ += length;
    end_sent_ = ends;
    return send_block(number, message, out, now);
}

std::size_t Sender::send_block(Flight::BlockNumber number, Message& message, MutableBytes out, Instant now) {
    const auto& block = flight_.block(number);
    const std::size_t size = wire::curvecp::message_size(block.length);
    const auto bytes = out.first(size).last(block.length);
    chunks_.read(block.position, bytes);
    message.position = block.position;
    message.block = bytes;
    message.end = block.carries_end ? end_ : StreamEnd::none;
    message.id = flight_.transmit(number, size, now);
    pacer_.spend(size);
    last_sent_ = now;
    ping_wanted_ = false;
    return size;
}

// The first blocks that are not done, those that wait to be sent again first.
std::size_t Sender::send_probe(Message& message, MutableBytes out, Instant now) {
    --probes_;
    probed_ = std::max(probed_, flight_.first());
    while (probed_ < flight_.end() && flight_.block(probed_).state == Flight::State::done) ++probed_;
    const auto number = flight_.next_lost().value_or(probed_);
    if (number >= flight_.end()) {
        probes_ = 0;
        return 0;
    }
    if (number == probed_) ++probed_;
    if (wire::curvecp::message_size(flight_.block(number).length) > out.size()) return 0;
    return send_block(number, message, out, now);
}

std::size_t Sender::send_ping(Message& message, Instant now) {
    ping_wanted_ = false;
    ping_waits_ = !flight_.has_blocks();
    message.id = flight_.transmit_ping(now);
    last_sent_ = now;
    return wire::curvecp::message_size(0);
}

Statistics Sender::statistics() const noexcept {
    return {.smoothed_rtt = round_trip_.smoothed(),
            .window = congestion_.window(),
            .in_flight = flight_.bytes(),
            .lost = lost_,
            .timeouts = timeouts_,
            .memory = 0};
}

}  // namespace curvegate::stream
