#include "text/reading.hpp"

#include "crypto/key_shape.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace curvegate::text {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::size_t kLongestQuote = 40;
constexpr std::size_t kLongestGuess = 64;

constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_control(char c) noexcept {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
}

std::string hex_escape(char c) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    return {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

bool holds_key(std::string_view text) {
    Words words(text);
    for (auto word = words.next(); !word.empty(); word = words.next()) {
        if (crypto::looks_like_key(word)) return true;
    }
    return false;
}

/// Optimal string alignment: insert, delete, change, swap neighbours; each costs 1.
std::size_t edits_between(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before(b.size() + 1);
    std::vector<std::size_t> last(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const bool same = lower(a[i - 1]) == lower(b[j - 1]);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0U : 1U)});
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1])) {
                row[j] = std::min(row[j], before[j - 2] + 1);
            }
        }
        std::swap(before, last);
        std::swap(last, row);
    }
    return last[b.size()];
}

}  // namespace

std::string_view trim(std::string_view text) noexcept {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

std::string_view without_byte_order_mark(std::string_view text) noexcept {
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    return text;
}

std::optional<std::string_view> Lines::next() noexcept {
    if (rest_.empty()) return std::nullopt;
    const auto end = rest_.find('\n');
    auto line = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number_;
    return line;
}

std::string_view Words::next() noexcept {
    const auto* const end = std::ranges::find_if(rest_, is_blank);
    const auto size = static_cast<std::size_t>(end - rest_.begin());
    const auto word = rest_.substr(0, size);
    rest_ = trim(rest_.substr(size));
    return word;
}

std::optional<std::string_view> Parts::next() noexcept {
    if (!rest_) return std::nullopt;
    const auto text = *rest_;
    const auto end = text.find(separator_);
    if (end == std::string_view::npos) {
        rest_.reset();
    } else {
        rest_ = text.substr(end + 1);
    }
    return text.substr(0, end);
}

std::optional<std::string> why_not_text(std::string_view line) {
    if (line.size() > kLongestLine) return "line is longer than " + std::to_string(kLongestLine) + " bytes";
    if (line.find('\0') != std::string_view::npos) return "NUL byte in the line: this is not a text file";
    const auto* const control = std::ranges::find_if(line, is_control);
    if (control != line.end()) return "control character " + hex_escape(*control) + " in the line";
    return std::nullopt;
}

std::string quoted(std::string_view text) {
    if (holds_key(text)) return "(a key)";
    std::string out = "\"";
    for (const char c : text.substr(0, kLongestQuote)) {
        const bool plain = !is_control(c) && c != '\t' && static_cast<unsigned char>(c) < 0x80;
        out += plain ? std::string(1, c) : hex_escape(c);
    }
    if (text.size() > kLongestQuote) out += "...";
    return out + '"';
}

std::optional<std::string_view> nearest(std::string_view word, std::span<const std::string_view> known) {
    if (word.empty() || word.size() > kLongestGuess) return std::nullopt;
    std::optional<std::string_view> best;
    // A third of the letters wrong is still a slip; more is another word.
    std::size_t best_edits = 2 + word.size() / 4;
    for (const auto candidate : known) {
        const auto edits = edits_between(word, candidate);
        if (edits >= best_edits || edits >= candidate.size()) continue;
        best = candidate;
        best_edits = edits;
    }
    constexpr std::size_t kShortestPart = 3;
    if (best || word.size() < kShortestPart) return best;
    const auto holds_it =
        std::ranges::find_if(known, [&](auto candidate) { return candidate.contains(word); });
    if (holds_it != known.end()) best = *holds_it;
    return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> known) {
    const auto guess = nearest(word, known);
    return guess ? " (did you mean " + quoted(*guess) + "?)" : "";
}

void ProblemList::add(std::size_t line, std::string text) {
    if (problems_.size() < kMostProblems) {
        // Some problems of a section are found at its end; people read from the top.
        const auto place = std::ranges::upper_bound(problems_, line, {}, &Problem::line);
        problems_.insert(place, {file_, line, std::move(text)});
    } else if (problems_.size() == kMostProblems) {
        problems_.push_back({file_, line, "and more from here on: mend the others first"});
    }
}

}  // namespace curvegate::text
