#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// Names come from files that people wrote and from strangers, and may hold any bytes. Whatever prints them
/// reads them through this.
namespace curvegate {

struct CodePoint {
    char32_t value = 0;    ///< if not valid: the byte
    std::size_t size = 1;  ///< bytes taken
    bool valid = false;
};

/// The first character of `text`, which is not empty. What RFC 3629 forbids (overlong forms, surrogates,
/// above U+10FFFF, a piece missing) is one invalid byte.
[[nodiscard]] CodePoint first_of(std::string_view text) noexcept;

/// Controls of C0 and C1, DEL, line and paragraph separators, what turns the direction of writing, and what
/// is not seen at all: text that holds one of them may not say what it seems to say.
[[nodiscard]] bool is_control(char32_t c) noexcept;

void append_utf8(std::string& out, char32_t c);

/// Appends `text` as it stands between the quotes of a JSON string: `"` and `\` with a `\` before them, what
/// is_control() names as \uXXXX (above U+FFFF as two of them, RFC 8259, 7), bytes that are not UTF-8 as
/// U+FFFD. The only escaping there is: log, events, status and audit share it, so that a line stays one line
/// and shows what it says.
void append_escaped(std::string& out, std::string_view text);

/// `digits` lower-case hexadecimal digits, or more if the value needs them.
[[nodiscard]] std::string hex(char32_t value, std::size_t digits);

}  // namespace curvegate
