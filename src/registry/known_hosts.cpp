#include "registry/known_hosts.hpp"

#include "base/utf8.hpp"
#include "crypto/key_shape.hpp"
#include "registry/dates.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <array>

namespace curvegate::registry {
namespace {

constexpr std::size_t kLongestName = 255;
constexpr std::string_view kKeyType = "curve25519";
constexpr std::string_view kRevoked = "@revoked";
constexpr std::array<std::string_view, 1> kMarkers = {kRevoked};
constexpr std::array<std::string_view, 1> kKeyTypes = {kKeyType};
constexpr std::array<std::string_view, 2> kOptions = {"from", "valid-until"};

using Refused = std::unexpected<std::string>;
template <class T = void>
using Parsed = std::expected<T, std::string>;

/// What stands before the key.
struct Head {
    bool revoked = false;
    std::vector<IpBlock> from;
    std::optional<WallTime> valid_until;
    std::vector<std::string> names;
};

bool reads_as_key(std::string_view word) {
    return crypto::looks_like_key(word);
}

/// Why a line might be shown otherwise than it is read, as another line or as none: it is no text
/// (why_not_text), not UTF-8, or holds a character that ends a line for some programs or turns the direction
/// of writing.
std::optional<std::string> why_not_shown(std::string_view line) {
    if (auto why = text::why_not_text(line)) return why;
    for (auto rest = line; !rest.empty();) {
        const auto c = first_of(rest);
        rest.remove_prefix(c.size);
        if (!c.valid) return "byte \\x" + hex(c.value, 2) + " in the line: write the file as UTF-8";
        const bool hides = (c.value >= 0x80 && c.value < 0xa0) || (c.value >= 0x2028 && c.value <= 0x202e) ||
                           (c.value >= 0x2066 && c.value <= 0x2069);
        if (hides) return "control character U+" + hex(c.value, 4) + " in the line";
    }
    return std::nullopt;
}

Parsed<> parse_from(std::string_view list, Head& head) {
    if (!head.from.empty()) return Refused("from= stands twice; list the addresses with commas");
    text::Parts parts(list, ',');
    while (const auto part = parts.next()) {
        const auto block = IpBlock::parse(*part);
        if (!block) {
            return Refused(
                "from=: " + text::quoted(*part) +
                " is not an address or block such as 10.0.0.0/8 or 2001:db8::/32 (the bits after the "
                "prefix must be 0)");
        }
        head.from.push_back(*block);
    }
    return {};
}

Parsed<> parse_option(std::string_view word, Head& head) {
    const auto equals = word.find('=');
    const auto name = word.substr(0, equals);
    const auto value = word.substr(equals + 1);
    if (name == "from") return parse_from(value, head);
    if (name != "valid-until")
        return Refused("unknown option " + text::quoted(name) + text::did_you_mean(name, kOptions));
    if (head.valid_until) return Refused("valid-until= stands twice");
    head.valid_until = parse_valid_until(value);
    if (!head.valid_until) {
        return Refused("valid-until=: " + text::quoted(value) +
                       " is not a date: want YYYY-MM-DD (through that day, UTC) or YYYY-MM-DDThh:mm:ssZ");
    }
    return {};
}

Parsed<> parse_names(std::string_view list, Head& head) {
    if (list.empty()) return Refused("no name: want NAME[,NAME...] curve25519 KEY");
    if (reads_as_key(list)) return Refused("a name must stand before the key: NAME curve25519 KEY");
    text::Parts parts(list, ',');
    while (const auto part = parts.next()) {
        if (!is_valid_name(*part)) {
            return Refused(text::quoted(*part) +
                           " is not a name: names are literal, of letters, digits, '.', '-', '_', ':'");
        }
        head.names.emplace_back(*part);
    }
    return {};
}

Parsed<Head> parse_head(text::Words& words) {
    Head head;
    auto word = words.next();
    if (word.starts_with('@')) {
        if (word != kRevoked)
            return Refused("unknown marker " + text::quoted(word) + text::did_you_mean(word, kMarkers));
        head.revoked = true;
        word = words.next();
    }
    // A key in base64 may end with '=' too, and means that the name is missing.
    for (; word.contains('=') && !reads_as_key(word); word = words.next()) {
        if (auto parsed = parse_option(word, head); !parsed) return Refused(std::move(parsed.error()));
    }
    if (auto parsed = parse_names(word, head); !parsed) return Refused(std::move(parsed.error()));
    return head;
}

Parsed<crypto::PublicKey> parse_key(text::Words& words) {
    const auto type = words.next();
    if (type.empty()) return Refused("no key after the name: want NAME curve25519 KEY");
    if (reads_as_key(type)) return Refused("the word curve25519 is missing before the key");
    if (type != kKeyType) {
        return Refused("unknown key type " + text::quoted(type) + ", want " + std::string(kKeyType) +
                       text::did_you_mean(type, kKeyTypes));
    }
    const auto text = words.next();
    if (text.empty()) return Refused("no key after the word curve25519");
    auto key = crypto::PublicKey::from_text(text);
    if (!key) return Refused(key.error().text());
    return *key;
}

Parsed<Entry> parse_line(std::string_view line, std::size_t number) {
    text::Words words(line);
    auto head = parse_head(words);
    if (!head) return Refused(std::move(head.error()));
    auto key = parse_key(words);
    if (!key) return Refused(std::move(key.error()));
    return Entry{.revoked = head->revoked,
                 .from = std::move(head->from),
                 .valid_until = head->valid_until,
                 .names = std::move(head->names),
                 .key = *key,
                 .comment = std::string(words.rest()),
                 .line = number};
}

/// A single address without its /32 or /128.
std::string text_of(const IpBlock& block) {
    return block.bits == 128 ? block.network.text() : block.text();
}

template <class Items, class Text>
std::string join(const Items& items, Text text) {
    std::string out;
    for (const auto& item : items) out += (out.empty() ? "" : ",") + text(item);
    return out;
}

}  // namespace

std::expected<std::vector<Entry>, Problems> parse_known_hosts(std::string_view text, std::string_view file) {
    std::vector<Entry> entries;
    text::ProblemList problems(file);
    text::Lines lines(text);
    while (const auto line = lines.next()) {
        // Comments too: another program might see two lines in one, or none, and so might who reviews the
        // file.
        if (auto why = why_not_shown(*line)) {
            problems.add(lines.number(), std::move(*why));
            continue;
        }
        const auto content = text::trim(*line);
        if (content.empty() || content.starts_with('#')) continue;
        if (auto entry = parse_line(content, lines.number())) {
            entries.push_back(std::move(*entry));
        } else {
            problems.add(lines.number(), std::move(entry.error()));
        }
    }
    if (!problems.empty()) return std::unexpected(problems.take());
    return entries;
}

std::string format(const Entry& entry) {
    std::string out;
    if (entry.revoked) out += std::string(kRevoked) + ' ';
    if (!entry.from.empty()) out += "from=" + join(entry.from, text_of) + ' ';
    if (entry.valid_until) out += "valid-until=" + format_valid_until(*entry.valid_until) + ' ';
    out += join(entry.names, [](const std::string& name) { return name; });
    out += ' ' + std::string(kKeyType) + ' ' + entry.key.text();
    if (!entry.comment.empty()) out += ' ' + entry.comment;
    return out;
}

bool is_valid_name(std::string_view name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
               c == '-' || c == '_' || c == ':';
    };
    return !name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, allowed);
}

}  // namespace curvegate::registry
