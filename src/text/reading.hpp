#pragma once

#include "base/problem.hpp"

#include <cstddef>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Reading text that a person wrote, and telling them what is wrong with it. Shared by known_hosts, the
/// configuration and the command.
namespace curvegate::text {

/// A line longer than this (bytes) is refused: it is no line that a person wrote.
inline constexpr std::size_t kLongestLine = std::size_t{64} * 1024;
/// More problems than this are not reported: the first ones say what the file is.
inline constexpr std::size_t kMostProblems = 200;

[[nodiscard]] constexpr bool is_blank(char c) noexcept {
    return c == ' ' || c == '\t';
}
/// Without blanks (spaces, tabs) at either end.
[[nodiscard]] std::string_view trim(std::string_view text) noexcept;

/// The text without the byte order mark that some editors put before it.
[[nodiscard]] std::string_view without_byte_order_mark(std::string_view text) noexcept;

/// Gives a text line by line. Lines end with LF or CRLF, the last one also without; a byte order mark before
/// the first is skipped. The views live as long as the text.
class Lines {
  public:
    explicit Lines(std::string_view text) noexcept : rest_(without_byte_order_mark(text)) {}
    /// The next line without its end, or nothing after the last.
    [[nodiscard]] std::optional<std::string_view> next() noexcept;
    /// Of the line given last; the first is 1.
    [[nodiscard]] std::size_t number() const noexcept { return number_; }

  private:
    std::string_view rest_;
    std::size_t number_ = 0;
};

/// Gives the words of a line, which blanks part.
class Words {
  public:
    explicit Words(std::string_view line) noexcept : rest_(trim(line)) {}
    /// The next word; empty after the last.
    [[nodiscard]] std::string_view next() noexcept;
    [[nodiscard]] std::string_view rest() const noexcept { return rest_; }

  private:
    std::string_view rest_;
};

/// Takes the part before the first `separator` off `rest`; nothing when `rest` was used up.
/// "a,,b" gives "a", "", "b"; "" gives "" once.
class Parts {
  public:
    Parts(std::string_view text, char separator) noexcept : rest_(text), separator_(separator) {}
    [[nodiscard]] std::optional<std::string_view> next() noexcept;

  private:
    std::optional<std::string_view> rest_;
    char separator_;
};

/// Why a line is not text at all (too long, NUL or another control character but tab); nothing if it is.
[[nodiscard]] std::optional<std::string> why_not_text(std::string_view line);

/// The text in quotes for a message: cut to 40 bytes, control bytes and bytes above ASCII as \xNN. If a word
/// of it reads as a key, nothing is shown: it may be a secret in the wrong place.
[[nodiscard]] std::string quoted(std::string_view text);

/// The known word that is close enough to have been meant: by edits (letters swapped, lost, added or changed;
/// case does not count), else one that contains `word`.
[[nodiscard]] std::optional<std::string_view> nearest(std::string_view word,
                                                      std::span<const std::string_view> known);
/// The words that `name` (a member or function) gives of each item, to look for the nearest.
template <class Items, class Name>
[[nodiscard]] std::vector<std::string_view> words_of(const Items& items, Name name) {
    std::vector<std::string_view> words;
    words.reserve(std::size(items));
    for (const auto& item : items) words.push_back(std::invoke(name, item));
    return words;
}
/// ` (did you mean "NEAREST"?)`, or an empty text.
[[nodiscard]] std::string did_you_mean(std::string_view word, std::span<const std::string_view> known);

/// Collects the problems of one file, up to kMostProblems.
class ProblemList {
  public:
    explicit ProblemList(std::string_view file) : file_(file) {}
    void add(std::size_t line, std::string text);
    [[nodiscard]] bool empty() const noexcept { return problems_.empty(); }
    /// All of them in the order of the file.
    [[nodiscard]] Problems take() noexcept { return std::move(problems_); }

  private:
    std::string file_;
    Problems problems_;
};

}  // namespace curvegate::text
