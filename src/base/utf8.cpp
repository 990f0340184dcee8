#include "base/utf8.hpp"

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
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
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
        const auto c = first_of(text);
        text.remove_prefix(c.size);
        if (!c.valid) {
            append_utf8(out, kReplacement);
        } else if (c.value == '"' || c.value == '\\') {
            out += '\\';
            append_utf8(out, c.value);
        } else if (is_control(c.value)) {
            out += "\\u" + hex(c.value, 4);
        } else {
            append_utf8(out, c.value);
        }
    }
}

}  // namespace curvegate
