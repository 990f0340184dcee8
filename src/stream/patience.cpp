#include "stream/patience.hpp"

#include <algorithm>

namespace curvegate::stream {

Peer peer_of(const Stream& stream) {
    return stream.peer_is_ours() ? Peer::ours : Peer::foreign;
}

Standing standing_of(const Stream& stream) {
    return {.peer = peer_of(stream),
            .acknowledged = stream.acknowledged(),
            .owes_bytes = stream.owes_bytes(),
            .aborted = stream.aborted(),
            .outgoing_done = stream.outgoing_done(),
            .done = stream.done(),
            .peer_failed = stream.incoming() == Incoming::failed,
            .round_trip = stream.statistics().smoothed_rtt};
}

Deadline Patience::dead_at(Deadline silent_since, Peer peer) const noexcept {
    if (!silent_since) return std::nullopt;
    return *silent_since + with(peer);
}

void Patience::release(std::uint64_t acknowledged, Audience audience, Instant now) noexcept {
    progress_ = {acknowledged, now};
    audience_ = audience;
}

// PROTOCOL 9.5: once the peer has everything, what is left is to repeat acknowledgments that were lost. A
// peer that has failed has nobody to read what it lacks.
Verdict Patience::judge(const Standing& stream, Instant now) noexcept {
    if (!progress_) return Verdict::go_on;
    if (forget_at_ && now >= *forget_at_) return Verdict::forget;
    if (stream.acknowledged != progress_->acknowledged) progress_ = {stream.acknowledged, now};
    if (now >= gives_up_at(stream)) return Verdict::give_up;
    if (!forget_at_ && (stream.outgoing_done || stream.peer_failed)) forget_at_ = now + kTimeWait;
    if (audience_ == Audience::nobody) return Verdict::go_on;
    // The peer's end too: it waits for us to acknowledge it.
    const bool delivered = stream.done || (stream.aborted && stream.outgoing_done);
    if (!delivered && (stream.owes_bytes || now < hurries_at(stream))) return Verdict::go_on;
    audience_ = Audience::nobody;
    return Verdict::tell_delivered;
}

Deadline Patience::next_deadline(const Standing& stream) const noexcept {
    if (!progress_) return std::nullopt;
    Instant out = gives_up_at(stream);
    if (forget_at_) out = std::min(out, *forget_at_);
    const bool hurries = audience_ == Audience::waits && !stream.owes_bytes;
    return hurries ? std::min(out, hurries_at(stream)) : out;
}

Duration Patience::with(Peer peer) const noexcept {
    return peer == Peer::ours ? dead_peer_ : std::max(dead_peer_, kForeign);
}

// PROTOCOL 9.6: a foreign peer's patience is for bytes that its program may still take: an end alone, and a
// failure, are not worth it.
Instant Patience::gives_up_at(const Standing& stream) const noexcept {
    if (stream.aborted) return progress_->since + std::min(dead_peer_, kFailure);
    return progress_->since + (stream.owes_bytes ? with(stream.peer) : dead_peer_);
}

// When nobody waits for it any more, though its end was not acknowledged.
Instant Patience::hurries_at(const Standing& stream) const noexcept {
    return progress_->since + kMoment + kMomentTrips * stream.round_trip;
}

}  // namespace curvegate::stream
