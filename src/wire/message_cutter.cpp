#include "wire/message_cutter.hpp"

#include <algorithm>
#include <utility>

namespace curvegate::wire {
namespace {

constexpr std::size_t size_from(FixedBytes<kMessageLengthSize> length) noexcept {
    return load_le<std::uint32_t>(length);
}

}  // namespace

MessageCutter::Cut MessageCutter::next(Bytes piece) {
    if (length_came_ > 0 || piece.size() < kMessageLengthSize) return collect(piece);
    const std::size_t size = size_from(piece.first<kMessageLengthSize>());
    const Bytes behind = piece.subspan(kMessageLengthSize);
    if (size > most_ || behind.size() < size) return collect(piece);
    return {Cut::What::in_place, kMessageLengthSize + size, behind.first(size), {}};
}

// What comes in pieces is put together here.
MessageCutter::Cut MessageCutter::collect(Bytes piece) {
    std::size_t head = 0;  // bytes of the piece that belong to the length
    while (length_came_ < length_.size() && head < piece.size()) length_[length_came_++] = piece[head++];
    if (length_came_ < length_.size()) return {Cut::What::part, head, {}, {}};
    const std::size_t size = size_from(length_);
    if (size > most_) return {Cut::What::bad_length, head, {}, {}};
    partial_.reserve(size);
    const auto taken = piece.subspan(head, std::min(piece.size() - head, size - partial_.size()));
    partial_.insert(partial_.end(), taken.begin(), taken.end());
    if (partial_.size() < size) return {Cut::What::part, head + taken.size(), {}, {}};
    length_came_ = 0;
    return {Cut::What::put_together, head + taken.size(), {}, std::exchange(partial_, {})};
}

}  // namespace curvegate::wire
