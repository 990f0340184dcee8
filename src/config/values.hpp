#pragma once

#include "base/time.hpp"
#include "registry/registry.hpp"

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What may stand right of a `=`. Each function gives the value or the words that say what is wrong.
namespace curvegate::config {

template <class T>
using Value = std::expected<T, std::string>;

/// Both ends belong to it.
template <class T>
struct Range {
    T least;
    T most;
};

/// A whole number and a unit: 250ms, 5s, 2m, 12h, 1d.
[[nodiscard]] Value<Duration> parse_duration(std::string_view text, Range<Duration> range);
/// A whole number, decimal.
[[nodiscard]] Value<std::uint64_t> parse_count(std::string_view text, Range<std::uint64_t> range);
/// A number that may have decimals.
[[nodiscard]] Value<double> parse_rate(std::string_view text, Range<double> range);
/// An absolute path.
[[nodiscard]] Value<std::string> parse_path(std::string_view text);
/// An absolute path, short enough for a socket's address (107 bytes).
[[nodiscard]] Value<std::string> parse_socket_path(std::string_view path);
/// unix:/path. Gives the path.
[[nodiscard]] Value<std::string> parse_unix_socket(std::string_view text);
/// A name of known_hosts or of a service.
[[nodiscard]] Value<std::string> parse_name(std::string_view text);
/// The name of a service in CurveCP's packets (PROTOCOL 7.4): 1 to 254 bytes, with 1 to 63 between dots,
/// since it is sent as DNS labels; or *.
[[nodiscard]] Value<std::string> parse_server_name(std::string_view text);
/// 32 hexadecimal digits: the 16 bytes of a CurveCP extension.
[[nodiscard]] Value<std::array<std::uint8_t, 16>> parse_extension(std::string_view text);
/// NAME[, NAME...] or *
[[nodiscard]] Value<registry::AllowList> parse_allow(std::string_view text);
/// ADDRESS[/BITS][, ...]
[[nodiscard]] Value<std::vector<IpBlock>> parse_blocks(std::string_view text);
/// The words in `choices`, for a message: "a, b or c", with the nearest to `text`.
[[nodiscard]] std::string refuse_choice(std::string_view text, std::span<const std::string_view> choices);

/// One word of a few. `choices` pairs each word with its value.
template <class T, std::size_t N>
[[nodiscard]] Value<T> parse_choice(std::string_view text,
                                    const std::array<std::pair<std::string_view, T>, N>& choices) {
    std::array<std::string_view, N> words;
    for (std::size_t i = 0; i < N; ++i) {
        if (choices[i].first == text) return choices[i].second;
        words[i] = choices[i].first;
    }
    return std::unexpected(refuse_choice(text, words));
}

}  // namespace curvegate::config
