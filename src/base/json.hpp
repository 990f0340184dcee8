#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// JSON (RFC 8259) as everything here writes it: on one line, without blanks, keys in the order of the calls.
namespace curvegate {

/// `text` as a JSON string with its quotes. Any bytes give plain UTF-8 that a terminal can show: see
/// append_escaped().
[[nodiscard]] std::string json_string(std::string_view text);

/// Puts commas and quotes where they belong. The caller opens and closes in pairs, and writes a key before
/// each value in an object.
class JsonWriter {
  public:
    /// `bracket`: '{' or '['.
    JsonWriter& open(char bracket);
    /// `bracket`: '}' or ']', as the one that was opened last wants it.
    JsonWriter& close(char bracket);
    JsonWriter& key(std::string_view name);
    JsonWriter& text(std::string_view value);
    JsonWriter& number(std::uint64_t value);
    /// `digits` is a number as JSON writes it, "12.500".
    JsonWriter& decimal(std::string_view digits);
    JsonWriter& boolean(bool value);
    JsonWriter& null();

    /// What was written so far; the writer is to be left alone after that.
    [[nodiscard]] std::string take();

  private:
    JsonWriter& raw(std::string_view value);
    void separate();
    std::string out_;
    bool first_ = true;  ///< nothing stands before the next value that a comma would part it from
};

}  // namespace curvegate
