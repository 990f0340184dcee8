#include "stream/acks.hpp"

namespace curvegate::stream {

using wire::curvecp::MessageId;

namespace {

constexpr Duration kMostDelay = std::chrono::milliseconds(5);
constexpr unsigned kMostOwed = 2;
constexpr std::size_t kMostIds = 128;  // what the reference has on the way at most

}  // namespace

// An id that is named twice ruins the other end's round trip time (PROTOCOL 8.2).
bool Acks::is_first_time(std::uint32_t id) noexcept {
    const auto ahead = static_cast<std::int32_t>(id - last_id_);
    if (last_id_ == 0 || ahead > 0) {
        const auto shift = static_cast<std::uint32_t>(ahead);
        before_ =
            last_id_ == 0 || shift > 64 ? 0 : (shift == 64 ? 0 : before_ << shift) | 1ULL << (shift - 1);
        last_id_ = id;
        return true;
    }
    if (ahead == 0 || ahead < -64) return false;
    const std::uint64_t bit = 1ULL << (-ahead - 1);
    if ((before_ & bit) != 0) return false;
    before_ |= bit;
    return true;
}

void Acks::owe(MessageId id, ById by_id, Urgency urgency, Instant now) {
    const bool name = is_first_time(id.value) && by_id == ById::named;
    if (!ours_) {
        queue(name ? id.value : 0);
        return;
    }
    if (name) newest_ = id;
    if (++owed_ >= kMostOwed || urgency == Urgency::now) {
        owed_ = kMostOwed;
        deadline_ = now;
    } else if (!deadline_) {
        deadline_ = now + kMostDelay;
    }
}

void Acks::owe_ping(MessageId id) noexcept {
    queue(id.value);
}

void Acks::queue(std::uint32_t id) noexcept {
    if (ids_.size() == kMostIds) ids_.pop_front();
    ids_.push_back(id);
}

void Acks::peer_is_ours() noexcept {
    if (ours_) return;
    ours_ = true;
    if (ids_.empty()) return;
    newest_ = {ids_.back()};
    owed_ = kMostOwed;
    deadline_ = Instant::min();
    ids_.clear();
    ids_.release();
}

bool Acks::due(Instant now) const noexcept {
    return !ids_.empty() || (deadline_ && *deadline_ <= now);
}

MessageId Acks::take() noexcept {
    if (!ids_.empty()) {
        const MessageId out{ids_.front()};
        ids_.pop_front();
        return out;
    }
    owed_ = 0;
    deadline_.reset();
    return std::exchange(newest_, {});
}

}  // namespace curvegate::stream
