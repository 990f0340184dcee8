#include "status/table.hpp"

#include "base/utf8.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace curvegate::status {
namespace {

/// Letters of Latin, Greek and Cyrillic alphabets, ready-made: one cell on every terminal. "…" and "→" are
/// our own marks. Other scripts may be two cells wide or join, and which does what differs between terminals.
bool is_one_cell(char32_t c) noexcept {
    if (c >= 0x20 && c < 0x7f) return true;
    return (c > 0xa0 && c < 0x300 && c != 0xad) || (c >= 0x386 && c < 0x483) || (c > 0x489 && c < 0x530) ||
           c == U'…' || c == U'→';
}

bool continues(char c) noexcept {
    return (static_cast<unsigned char>(c) & 0xc0U) == 0x80;
}

std::string_view ellipsis(Glyphs glyphs) noexcept {
    return glyphs == Glyphs::unicode ? "…" : "~";
}

}  // namespace

std::string plain(std::string_view text, Glyphs glyphs) {
    std::string out;
    while (!text.empty()) {
        const auto c = first_of(text);
        text.remove_prefix(c.size);
        if (!c.valid || (c.value < 0x80 && !is_one_cell(c.value))) {
            out += "\\x" + hex(c.value, 2);
        } else if (is_one_cell(c.value) && (c.value < 0x80 || glyphs == Glyphs::unicode)) {
            append_utf8(out, c.value);
        } else {
            out += "\\u{" + hex(c.value, 4) + "}";
        }
    }
    return out;
}

std::size_t cells(std::string_view text) noexcept {
    return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return !continues(c); }));
}

std::size_t bytes_of_cells(std::string_view text, std::size_t width) noexcept {
    std::size_t end = 0;
    for (std::size_t cell = 0; cell < width && end < text.size(); ++cell) {
        ++end;
        while (end < text.size() && continues(text[end])) ++end;
    }
    return end;
}

std::string clipped(std::string text, std::size_t width, Glyphs glyphs) {
    if (cells(text) <= width) return text;
    if (width == 0) return {};
    text.resize(bytes_of_cells(text, width - 1));
    text += ellipsis(glyphs);
    return text;
}

std::string fitted(std::string text, std::size_t width, Align align, Glyphs glyphs) {
    text = clipped(std::move(text), width, glyphs);
    const std::string filling(width - cells(text), ' ');
    return align == Align::left ? text + filling : filling + text;
}

std::string bar(double value, double greatest, std::size_t width, Glyphs glyphs) {
    constexpr std::array<std::string_view, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const std::size_t parts = glyphs == Glyphs::unicode ? kEighths.size() : 1;
    const double share = value > 0 && greatest > 0 ? std::min(value / greatest, 1.0) : 0;
    auto full = static_cast<std::size_t>(std::lround(share * static_cast<double>(width * parts)));
    if (share > 0 && full == 0 && width > 0) full = 1;
    std::string out;
    for (std::size_t cell = 0; cell < full / parts; ++cell) out += glyphs == Glyphs::unicode ? "█" : "#";
    out += kEighths[full % parts];
    return out + std::string(width - cells(out), ' ');
}

std::vector<std::size_t> column_widths(const std::vector<Column>& columns, std::size_t room) {
    std::vector<std::size_t> widths;
    widths.reserve(columns.size());
    for (const auto& column : columns) widths.push_back(column.least);
    const auto used = [&] {
        std::size_t sum = 0;
        for (const std::size_t width : widths) sum += width == 0 ? 0 : width + 1;
        return sum - 1;  // no gap after the last; the first is always there
    };
    while (used() > room) {
        unsigned last = 0;
        for (std::size_t i = 1; i < columns.size(); ++i) {
            if (widths[i] != 0) last = std::max(last, columns[i].rank);
        }
        bool dropped = false;
        for (std::size_t i = 1; i < columns.size(); ++i) {
            dropped = dropped || (widths[i] != 0 && columns[i].rank == last);
            if (columns[i].rank == last) widths[i] = 0;
        }
        if (!dropped) break;
    }
    if (used() > room) widths[0] = room;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (widths[i] == 0 || used() >= room) continue;
        widths[i] += std::min(columns[i].most - std::min(columns[i].most, widths[i]), room - used());
    }
    return widths;
}

}  // namespace curvegate::status
