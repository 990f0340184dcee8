#include "config/values.hpp"

#include "text/reading.hpp"

#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace curvegate::config {
namespace {

using text::Parts;
using text::quoted;
using text::trim;
using Refused = std::unexpected<std::string>;

constexpr std::size_t kLongestPath = 4095;  // PATH_MAX without its end
constexpr std::size_t kLongestSocketPath = sizeof(sockaddr_un::sun_path) - 1;
// PROTOCOL 7.4: a length byte before each label, a final zero, 256 bytes in all.
constexpr std::size_t kLongestLabel = 63;
constexpr std::size_t kLongestServerName = 254;

struct Unit {
    std::string_view name;
    Duration length;
};
constexpr std::array<Unit, 5> kUnits = {{{"ms", std::chrono::milliseconds(1)},
                                         {"s", std::chrono::seconds(1)},
                                         {"m", std::chrono::minutes(1)},
                                         {"h", std::chrono::hours(1)},
                                         {"d", std::chrono::days(1)}}};

/// In the greatest unit that leaves no rest.
std::string text_of(Duration duration) {
    const Unit* best = &kUnits.front();
    for (const Unit& unit : kUnits) {
        if (duration.count() != 0 && duration % unit.length == Duration::zero()) best = &unit;
    }
    return std::to_string(duration / best->length) + std::string(best->name);
}

/// All of `text` as a number, or nothing.
template <class Number>
std::optional<Number> number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string plain(double value) {
    std::string text = std::to_string(value);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.')) text.pop_back();
    return text;
}

/// The labels of a name without the empty ones.
std::string without_empty_labels(std::string_view name) {
    std::string out;
    Parts labels(name, '.');
    while (const auto label = labels.next()) {
        if (label->empty()) continue;
        if (!out.empty()) out += '.';
        out += *label;
    }
    return out;
}

}  // namespace

Value<Duration> parse_duration(std::string_view text, Range<Duration> range) {
    const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto count = number<std::int64_t>(text.substr(0, digits));
    const auto unit_name = trim(text.substr(digits));
    const auto* const unit = std::ranges::find(kUnits, unit_name, &Unit::name);
    if (digits > 0 && unit_name.empty())
        return Refused(quoted(text) + " has no unit: " + std::string(text) + "s?");
    if (digits == 0 || unit == kUnits.end()) {
        return Refused(quoted(text) + " is not a duration such as 250ms, 5s, 2m, 12h or 1d");
    }
    if (!count || *count > range.most / unit->length) return Refused("longer than " + text_of(range.most));
    const Duration duration = *count * unit->length;
    if (duration < range.least) return Refused("shorter than " + text_of(range.least));
    return duration;
}

Value<std::uint64_t> parse_count(std::string_view text, Range<std::uint64_t> range) {
    const auto value = number<std::uint64_t>(text);
    if (!value || *value < range.least || *value > range.most) {
        return Refused(quoted(text) + " is not a whole number from " + std::to_string(range.least) + " to " +
                       std::to_string(range.most));
    }
    return *value;
}

Value<double> parse_rate(std::string_view text, Range<double> range) {
    const auto value = number<double>(text);
    if (!value || !std::isfinite(*value) || *value < range.least || *value > range.most) {
        return Refused(quoted(text) + " is not a number from " + plain(range.least) + " to " +
                       plain(range.most));
    }
    return *value;
}

Value<std::string> parse_path(std::string_view text) {
    if (!text.starts_with('/'))
        return Refused(quoted(text) + " is not a full path: write it from the root, /...");
    if (text.size() > kLongestPath)
        return Refused("the path is longer than " + std::to_string(kLongestPath) + " bytes");
    return std::string(text);
}

Value<std::string> parse_socket_path(std::string_view path) {
    if (path.size() > kLongestSocketPath) {
        return Refused("the path of a unix socket has at most " + std::to_string(kLongestSocketPath) +
                       " bytes");
    }
    return parse_path(path);
}

Value<std::string> parse_unix_socket(std::string_view text) {
    constexpr std::string_view kPrefix = "unix:";
    if (!text.starts_with(kPrefix)) return Refused(quoted(text) + ": want unix:/path");
    return parse_socket_path(text.substr(kPrefix.size()));
}

Value<std::string> parse_name(std::string_view text) {
    if (registry::is_valid_name(text)) return std::string(text);
    return Refused(quoted(text) + " is not a name: letters, digits, '.', '-', '_', ':', at most 255");
}

Value<std::string> parse_server_name(std::string_view text) {
    if (text == "*") return std::string(text);
    auto name = parse_name(text);
    if (!name) return name;
    const std::string sent = without_empty_labels(text);
    if (sent != text) {
        return Refused(quoted(text) + " has an empty part beside a dot, which the wire cannot carry: write " +
                       (sent.empty() ? "a name" : quoted(sent)));
    }
    Parts labels(text, '.');
    while (const auto label = labels.next()) {
        if (label->size() <= kLongestLabel) continue;
        return Refused(quoted(*label) + " is " + std::to_string(label->size()) +
                       " bytes long: between dots " + std::to_string(kLongestLabel) +
                       " is the most that the wire carries");
    }
    if (text.size() > kLongestServerName) {
        return Refused(quoted(text) + " is " + std::to_string(text.size()) + " bytes long: " +
                       std::to_string(kLongestServerName) + " is the most that the wire carries");
    }
    return name;
}

Value<std::array<std::uint8_t, 16>> parse_extension(std::string_view text) {
    std::array<std::uint8_t, 16> out{};
    const bool is_hex = text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    if (!is_hex || text.size() != 2 * out.size())
        return Refused(quoted(text) + " is not an extension: want 16 bytes as 32 hexadecimal digits");
    for (std::size_t i = 0; i < out.size(); ++i)
        std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, out[i], 16);
    return out;
}

Value<registry::AllowList> parse_allow(std::string_view text) {
    if (text == "*") return registry::AllowList{.any = true, .names = {}};
    registry::AllowList allow;
    Parts parts(text, ',');
    while (const auto part = parts.next()) {
        const auto word = trim(*part);
        if (word == "*") return Refused("* stands alone: it lets any key in");
        if (std::ranges::any_of(word, text::is_blank))
            return Refused(quoted(word) + ": part names with commas");
        auto name = parse_name(word);
        if (!name) return Refused(std::move(name.error()));
        allow.names.push_back(std::move(*name));
    }
    return allow;
}

Value<std::vector<IpBlock>> parse_blocks(std::string_view text) {
    std::vector<IpBlock> blocks;
    Parts parts(text, ',');
    while (const auto part = parts.next()) {
        const auto word = trim(*part);
        const auto block = IpBlock::parse(word);
        if (!block) {
            return Refused(quoted(word) +
                           " is not an address or a block of them (192.0.2.7, 10.0.0.0/8, 2001:db8::/32)");
        }
        blocks.push_back(*block);
    }
    return blocks;
}

std::string refuse_choice(std::string_view text, std::span<const std::string_view> choices) {
    std::string out = quoted(text) + " is not ";
    for (std::size_t i = 0; i < choices.size(); ++i) {
        if (i > 0) out += i + 1 == choices.size() ? " or " : ", ";
        out += choices[i];
    }
    return out + text::did_you_mean(text, choices);
}

}  // namespace curvegate::config
