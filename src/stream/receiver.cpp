#include "stream/receiver.hpp"

namespace curvegate::stream {

using wire::curvecp::Message;
using wire::curvecp::StreamEnd;

namespace {

constexpr std::uint64_t kFirstWindow = std::uint64_t{256} * 1024;

}  // namespace

Receiver::Receiver(const Options& options) noexcept
    : chunks_(options.chunks != nullptr ? *options.chunks : heap_chunks()),
      most_unread_(options.most_unread),
      window_(std::min<std::uint64_t>(kFirstWindow, options.most_unread)),
      widen_at_(window_) {}

// PROTOCOL 9.4, 9.5: what lies beyond the limit or contradicts the known end is as good as lost.
bool Receiver::fits(const Message& message) const noexcept {
    const std::uint64_t end = message.position + message.block.size();
    if (end > std::max(told_, consumed_ + std::min(kFirstWindow, most_unread_))) return false;
    if (message.end == StreamEnd::none) return !end_ || end <= *end_;
    return end_ ? end == *end_ : end >= came_.highest();
}

Receiver::Taken Receiver::take(const Message& message) {
    if (!message.has_block) return Taken::ignored;
    if (message.block.empty() && message.end == StreamEnd::none) return Taken::ping;
    if (!fits(message)) return Taken::ignored;
    const auto taken = message.block.empty() ? Taken::repeated : take_block(message.position, message.block);
    if (message.end == StreamEnd::none || taken == Taken::ignored) return taken;
    const bool known = std::exchange(end_, message.position + message.block.size()).has_value();
    failed_ = failed_ || message.end == StreamEnd::failure;
    return known && taken == Taken::repeated ? Taken::repeated : Taken::ended;
}

Receiver::Taken Receiver::take_block(std::uint64_t position, Bytes block) {
    const std::uint64_t before = came_.prefix();
    const bool had_holes = came_.has_holes();
    const auto added = came_.add(position, position + block.size());
    if (added == Intervals::Added::refused) return Taken::ignored;
    if (added == Intervals::Added::nothing) return Taken::repeated;
    // What was there stays there: a peer cannot change bytes that the local side may have seen.
    const std::uint64_t known = position < before ? before - position : 0;
    if (reading_) {
        chunks_.write(position + known, block.subspan(known));
    } else {
        discard();
    }
    kept_up_ = kept_up_ && came_.prefix() - consumed_ <= window_ / 2;
    return added == Intervals::Added::in_order && !had_holes ? Taken::in_order : Taken::unordered;
}

void Receiver::stop_reading() {
    reading_ = false;
    discard();
}

// What has come counts as taken, and what came behind a hole is not kept.
void Receiver::discard() {
    consumed_ = came_.prefix();
    chunks_.restart(consumed_);
    chunks_.release();
}

void Receiver::consume(std::size_t size) {
    consumed_ += size;
    if (drained()) {
        chunks_.restart(consumed_);
    } else {
        chunks_.drop_before(consumed_);
    }
    widen();
}

// The window doubles each time that a whole one came and the local side took it all without delay.
void Receiver::widen() noexcept {
    if (consumed_ < widen_at_) return;
    if (kept_up_) window_ = std::min(window_ * 2, most_unread_);
    kept_up_ = true;
    widen_at_ = consumed_ + window_;
}

Incoming Receiver::incoming() const noexcept {
    if (!has_all()) return Incoming::open;
    return failed_ ? Incoming::failed : Incoming::ended;
}

std::uint64_t Receiver::tell_limit() noexcept {
    told_ = std::max(told_, consumed_ + window_);
    return told_;
}

bool Receiver::limit_is_news() const noexcept {
    return !end_ && told_ + std::max<std::uint64_t>(window_ / 4, 1) <= consumed_ + window_;
}

void Receiver::release() noexcept {
    chunks_.release();  // which are empty: consume() left them so
    came_.release();
}

}  // namespace curvegate::stream
