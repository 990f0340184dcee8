#include "base/utf8.hpp"

#include <algorithm>
#include <array>

namespace curvegate {
namespace {

/// How many bytes a character has that begins so; 0: none does.
std::size_t length_from(unsigned char first) noexcept {
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first < 0xe0) return 2;
    if (first >= 0xe0 && first < 0xf0) return 3;
    if (first >= 0xf0 && first < 0xf5) return 4;
    return 0;
}

struct Range {
    char32_t first;
    char32_t last;
};
// Unicode 15: the classes Cc, Cf, Zl and Zp, and what has the property Default_Ignorable_Code_Point;
// ascending, from U+0080 on.
constexpr auto kUnseen = std::to_array<Range>({
    {0x80, 0x9f},         {0xad, 0xad},         {0x34f, 0x34f},       {0x600, 0x605},
    {0x61c, 0x61c},       {0x6dd, 0x6dd},       {0x70f, 0x70f},       {0x890, 0x891},
    {0x8e2, 0x8e2},       {0x115f, 0x1160},     {0x17b4, 0x17b5},     {0x180b, 0x180f},
    {0x200b, 0x200f},     {0x2028, 0x202e},     {0x2060, 0x206f},     {0x3164, 0x3164},
    {0xfe00, 0xfe0f},     {0xfeff, 0xfeff},     {0xffa0, 0xffa0},     {0xfff0, 0xfffb},
    {0x1'10bd, 0x1'10bd}, {0x1'10cd, 0x1'10cd}, {0x1'3430, 0x1'343f}, {0x1'bca0, 0x1'bca3},
    {0x1'd173, 0x1'd17a}, {0xe'0000, 0xe'0fff},
});

static_assert(std::ranges::is_sorted(kUnseen, {}, &Range::last));

/// As JSON escapes a character: above U+FFFF it has two halves (RFC 8259, 7).
void append_escape(std::string& out, char32_t c) {
    if (c >= 0x1'0000) {
        append_escape(out, 0xd800 + ((c - 0x1'0000) >> 10));
        c = 0xdc00 + ((c - 0x1'0000) & 0x3ff);
    }
    out += "\\u" + hex(c, 4);
}

/// In a JSON string, and in one byte: nearly all that is ever written.
bool stands_for_itself(char c) noexcept {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

bool allowed(char32_t value, std::size_t size) noexcept {
    if (size == 3) return value >= 0x800 && (value < 0xd800 || value > 0xdfff);
    if (size == 4) return value >= 0x1'0000 && value <= 0x10'ffff;
    return true;
}

}  // namespace

CodePoint first_of(std::string_view text) noexcept {
    const auto first = static_cast<unsigned char>(text.front());
    const std::size_t size = length_from(first);
    if (size == 1) return {first, 1, true};
    if (size == 0 || text.size() < size) return {first, 1, false};
    char32_t value = first & (0xffU >> (size + 1));
    for (const char c : text.substr(1, size - 1)) {
        const auto next = static_cast<unsigned char>(c);
        if ((next & 0xc0U) != 0x80) return {first, 1, false};
        value = (value << 6) | (next & 0x3fU);
    }
    if (!allowed(value, size)) return {first, 1, false};
    return {value, size, true};
}

bool is_control(char32_t c) noexcept {
    if (c < 0x80) return c < 0x20 || c == 0x7f;
    const auto* const range = std::ranges::lower_bound(kUnseen, c, {}, &Range::last);
    return range != kUnseen.end() && range->first <= c;
}

void append_utf8(std::string& out, char32_t c) {
    const auto put = [&](char32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
    if (c < 0x80) return put(c);
    if (c < 0x800) {
        put(0xc0 | (c >> 6));
    } else if (c < 0x1'0000) {
        put(0xe0 | (c >> 12));
        put(0x80 | ((c >> 6) & 0x3f));
    } else {
        put(0xf0 | (c >> 18));
        put(0x80 | ((c >> 12) & 0x3f));
        put(0x80 | ((c >> 6) & 0x3f));
    }
    put(0x80 | (c & 0x3f));
}

std::string hex(char32_t value, std::size_t digits) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    for (; value != 0 || out.size() < digits; value >>= 4) out.insert(out.begin(), kDigits[value & 15]);
    return out;
}

void append_escaped(std::string& out, std::string_view text) {
    constexpr char32_t kReplacement = 0xfffd;
    while (!text.empty()) {
        const auto plain = std::ranges::find_if_not(text, stands_for_itself) - text.begin();
        out += text.substr(0, static_cast<std::size_t>(plain));
        text.remove_prefix(static_cast<std::size_t>(plain));
        if (text.empty()) return;
        const auto c = first_of(text);
        text.remove_prefix(c.size);
        if (!c.valid) {
            append_utf8(out, kReplacement);
        } else if (c.value == '"' || c.value == '\\') {
            out += '\\';
            append_utf8(out, c.value);
        } else if (is_control(c.value)) {
            append_escape(out, c.value);
        } else {
            append_utf8(out, c.value);
        }
    }
}

}  // namespace curvegate
