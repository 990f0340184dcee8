#include "stream/intervals.hpp"

#include <algorithm>
#include <limits>

namespace curvegate::stream {

using wire::curvecp::kRanges;
using wire::curvecp::Range;

namespace {

constexpr std::size_t kSelected = kRanges - 1;

std::uint64_t most_gap(std::size_t index) noexcept {
    return index == 0 ? std::numeric_limits<std::uint32_t>::max() : std::numeric_limits<std::uint16_t>::max();
}

}  // namespace

Intervals::Added Intervals::add(std::uint64_t begin, std::uint64_t end) {
    if (end <= prefix_) return Added::nothing;
    if (begin <= prefix_) {
        advance(end);
        return Added::in_order;
    }
    if (holds(begin, end)) return Added::nothing;
    // The first interval that ends at or behind our begin.
    auto place = std::ranges::lower_bound(behind_, begin, {}, &Range::end);
    if (place != behind_.end() && place->begin <= begin && end - place->begin <= kLongest) {
        place->end = std::max(place->end, end);
    } else {
        if (behind_.size() >= kMost) return Added::refused;
        // What another interval holds already stays there.
        if (place != behind_.end() && place->begin <= begin) begin = (place++)->end;
        place = behind_.insert(place, {begin, end});
    }
    for (auto next = place + 1; next != behind_.end() && next->begin <= place->end;) {
        const std::uint64_t joined = std::max(next->end, place->end);
        if (joined - place->begin > kLongest) {
            place->end = next->begin;
            break;
        }
        place->end = joined;
        next = behind_.erase(next);
    }
    remember(place->begin);
    return Added::behind;
}

void Intervals::advance(std::uint64_t end) {
    prefix_ = std::max(prefix_, end);
    auto kept = behind_.begin();
    for (; kept != behind_.end() && kept->begin <= prefix_; ++kept) prefix_ = std::max(prefix_, kept->end);
    behind_.erase(behind_.begin(), kept);
}

bool Intervals::holds(std::uint64_t begin, std::uint64_t end) const noexcept {
    begin = std::max(begin, prefix_);
    auto place = std::ranges::upper_bound(behind_, begin, {}, &Range::end);
    for (; begin < end && place != behind_.end() && place->begin <= begin; ++place) begin = place->end;
    return begin >= end;
}

void Intervals::remember(std::uint64_t begin) noexcept {
    std::size_t last = 0;
    while (last + 1 < recent_.size() && recent_[last] != begin) ++last;
    for (; last > 0; --last) recent_[last] = recent_[last - 1];
    recent_.front() = begin;
}

const Range* Intervals::beginning_at(std::uint64_t begin) const noexcept {
    const auto place = std::ranges::lower_bound(behind_, begin, {}, &Range::begin);
    return place != behind_.end() && place->begin == begin ? &*place : nullptr;
}

void Intervals::select(std::array<Range, kRanges>& ranges) const {
    if (behind_.empty()) return;
    struct Chosen {
        Range range;
        std::size_t age = 0;
    };
    std::array<Chosen, kSelected> chosen;
    std::size_t count = 0;
    const auto choose = [&](const Range& range) {
        if (count == kSelected) return;
        std::size_t place = 0;
        while (place < count && chosen[place].range.begin < range.begin) ++place;
        if (place < count && chosen[place].range == range) return;
        for (std::size_t i = count; i > place; --i) chosen[i] = chosen[i - 1];
        chosen[place] = {range, count};
        ++count;
    };
    for (const auto begin : recent_) {
        if (const auto* range = begin == 0 ? nullptr : beginning_at(begin)) choose(*range);
    }
    for (std::size_t i = 0; i < behind_.size() && i < kSelected; ++i) choose(behind_[i]);

    // A gap wider than its field: of the two ranges beside it the one goes that changed longer ago.
    std::array<std::size_t, kRanges> ages{};
    std::size_t filled = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto& [range, age] = chosen[i];
        const auto fits_behind = [&](std::size_t last) {
            return range.begin - (last == 0 ? prefix_ : ranges[last].end) <= most_gap(last);
        };
        std::size_t last = filled;
        while (!fits_behind(last) && last > 0 && ages[last] > age) --last;
        if (!fits_behind(last)) continue;
        filled = last;
        ranges[++filled] = range;
        ages[filled] = age;
    }
    while (++filled < kRanges) ranges[filled] = {};
}

}  // namespace curvegate::stream
