#include "handshake/curvecp/path.hpp"

#include <functional>

namespace curvegate::handshake::curvecp {

Reaction PathValidator::take(const Arrival& packet, Instant now) {
    Reaction out;
    if (begins_move(packet)) {
        candidate_ = std::make_unique<Candidate>(
            Candidate{packet.from, {fresh_id(), fresh_id()}, now, now + kGiveUp, {}, 0, 0});
        // If it has not moved and somebody only passes its packets on, it answers from where it is, with a
        // higher number.
        out.to_proven = {proven_, fresh_id()};
    } else if (packet.newest && packet.from == proven_) {
        candidate_.reset();  // it is where it was
    }
    if (!candidate_ || packet.from != candidate_->path) return out;
    candidate_->received += packet.size;
    if (now >= candidate_->challenge_again) challenge(out, now);
    if (!has_named_all(packet.acked)) return out;
    proven_ = candidate_->path;
    candidate_.reset();
    out.has_moved = true;
    return out;
}

Reaction PathValidator::on_deadline(Instant now) {
    Reaction out;
    if (!candidate_) return out;
    if (now >= candidate_->give_up) {
        candidate_.reset();  // the last proven path is still the best guess
    } else if (now >= candidate_->challenge_again) {
        challenge(out, now);
    }
    return out;
}

wire::curvecp::MessageId PathValidator::fresh_id() {
    ByteArray<4> bytes{};
    random_->fill(bytes);
    return {std::max(std::uint32_t{1}, load_le<std::uint32_t>(bytes))};
}

void PathValidator::challenge(Reaction& out, Instant now) {
    candidate_->challenge_again = now + kChallengeAgain;
    for (std::size_t i = 0; i < kProofs; ++i) {
        if (candidate_->named[i] || kChallengeSize > allowance()) continue;
        out.to_candidate[i] = {candidate_->path, candidate_->ids[i]};
        candidate_->sent += kChallengeSize;
    }
}

// With this message or before.
bool PathValidator::has_named_all(wire::curvecp::MessageId acked) {
    for (std::size_t i = 0; i < kProofs; ++i)
        candidate_->named[i] = candidate_->named[i] || acked == candidate_->ids[i];
    return std::ranges::all_of(candidate_->named, std::identity{});
}

}  // namespace curvegate::handshake::curvecp
