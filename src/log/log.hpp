#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The one door to the logging library: fixed event words with fields, as text or JSON lines. No secret and
/// no payload ever goes through it.
namespace curvegate::log {

enum class Level { trace, debug, info, warning, error };
enum class Format { text, json };

/// A key and its value. JSON writes numbers as numbers, anything else as text.
struct Field {
    enum class Kind { text, number };
    Field(std::string_view name, std::string text) : key(name), value(std::move(text)) {}
    Field(std::string_view name, std::uint64_t number)
        : key(name), value(std::to_string(number)), kind(Kind::number) {}
    template <std::integral Number>
    Field(std::string_view name, Number number)
        : key(name), value(std::to_string(number)), kind(Kind::number) {}
    /// `digits` is a number as JSON writes it, "12.5".
    [[nodiscard]] static Field decimal(std::string_view name, std::string digits) {
        Field out(name, std::move(digits));
        out.kind = Kind::number;
        return out;
    }

    std::string_view key;
    std::string value;
    Kind kind = Kind::text;
};

/// How a line begins.
enum class Head {
    time,      ///< when it was written
    priority,  ///< "<N>", syslog's number of its level: the journal knows the time by itself
};

/// Where lines go from now on: the descriptor stays open as long as the process logs. Nobody ever waits for a
/// line to be read: one that does not fit is left out, and `log_lines_lost` says later how many were. To be
/// called before the process is confined; SIGPIPE must be ignored.
void configure(Level least, Format format, Head head, int descriptor);

/// Is `descriptor` the journal that systemd names in JOURNAL_STREAM ("DEVICE:INODE")?
[[nodiscard]] bool is_journal(int descriptor, const char* journal_stream);

/// From now on lines go to the file behind `descriptor`, which stays the caller's. Any thread.
void redirect(int descriptor);

/// In the child after a fork(), before it logs.
void after_fork();

/// One line: time, level, the event's word, its fields. Values that are not plain are quoted and escaped as
/// in JSON (append_escaped), so that a line stays one line. Any thread.
void event(Level level, std::string_view word, std::initializer_list<Field> fields = {});

/// As event(), but at most 10 lines a second of this word, burst 50; what was left out is told in a field
/// `suppressed` of the next line. For everything that others can cause.
void limited(Level level, std::string_view word, std::initializer_list<Field> fields = {});

using Fields = std::vector<Field>;
/// Asks for a place in the word's bucket. Returns how many lines were left out since the last one, or nullopt
/// if this one is left out too, or nobody wants lines of this level.
[[nodiscard]] std::optional<std::uint64_t> admit(Level level, std::string_view word);
/// The line that admit() let through.
void admitted(Level level, std::string_view word, const Fields& fields, std::uint64_t suppressed);

/// The same for what a stranger can cause by a packet: `fields` is called, and memory taken, only for a line
/// that is written.
template <std::invocable MakeFields>
void limited(Level level, std::string_view word, MakeFields fields) {
    if (const auto suppressed = admit(level, word)) admitted(level, word, fields(), *suppressed);
}

/// Everything that is logged goes to `tap` too, as a JSON line without its end, on the thread that logs;
/// empty: no more. It must not log.
void tap(std::function<void(const std::string& line)> tap);

}  // namespace curvegate::log
