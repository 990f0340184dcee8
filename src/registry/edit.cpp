#include "registry/edit.hpp"

#include "registry/dates.hpp"
#include "text/reading.hpp"

#include <algorithm>

namespace curvegate::registry {
namespace {

/// The line, which is good and holds other names too, without this one.
std::string without_name(std::string_view line, std::string_view name) {
    text::Words words(line);
    auto list = words.next();
    while (list.starts_with('@') || list.contains('=')) list = words.next();
    std::string kept;
    text::Parts parts(list, ',');
    while (const auto part = parts.next()) {
        if (*part == name) continue;
        if (!kept.empty()) kept += ',';
        kept += *part;
    }
    const auto start = static_cast<std::size_t>(list.data() - line.data());
    return std::string(line.substr(0, start)) + kept + std::string(line.substr(start + list.size()));
}

/// All names that the file gives the key, each once; nothing: it is revoked already.
std::optional<std::vector<std::string>> names_to_revoke(const std::vector<Entry>& entries,
                                                        const crypto::PublicKey& key) {
    std::vector<std::string> out;
    for (const Entry& entry : entries) {
        if (entry.key != key) continue;
        if (entry.revoked) return std::nullopt;
        for (const auto& name : entry.names) {
            if (std::ranges::find(out, name) == out.end()) out.push_back(name);
        }
    }
    // A key may be revoked before it was ever added; the grammar wants a name.
    if (out.empty()) out.emplace_back("revoked");
    return out;
}

}  // namespace

std::string append_entry(std::string_view text, const Entry& entry) {
    std::string out(text);
    if (!out.empty() && !out.ends_with('\n')) out += '\n';
    return out + format(entry) + '\n';
}

std::string append_revoked(std::string_view text, const std::vector<Entry>& entries,
                           const std::vector<crypto::PublicKey>& keys, WallTime now) {
    std::string out(text);
    const auto tomorrow = std::chrono::floor<std::chrono::days>(now) + std::chrono::days(1);
    const std::string comment = "revoked " + format_valid_until(tomorrow);  // the last day before is today
    for (auto key = keys.begin(); key != keys.end(); ++key) {
        auto names = names_to_revoke(entries, *key);
        if (!names || std::find(keys.begin(), key, *key) != key) continue;
        out = append_entry(out, {.revoked = true,
                                 .from = {},
                                 .valid_until = {},
                                 .names = std::move(*names),
                                 .key = *key,
                                 .comment = comment});
    }
    return out;
}

Removal remove_name(std::string_view text, const std::vector<Entry>& entries, std::string_view name) {
    Removal out;
    text = text::without_byte_order_mark(text);
    auto entry = entries.begin();
    std::size_t number = 0;
    while (!text.empty()) {
        const auto end = text.find('\n');
        const auto line = text.substr(0, end == std::string_view::npos ? text.size() : end + 1);
        text.remove_prefix(line.size());
        ++number;
        const bool is_entry = entry != entries.end() && entry->line == number;
        const bool named = is_entry && std::ranges::find(entry->names, name) != entry->names.end();
        const bool revoked = named && entry->revoked;
        if (revoked) ++out.revoked_lines;
        if (!named || revoked) {
            out.text += line;
        } else {
            ++out.lines;
            const bool only_name =
                std::ranges::all_of(entry->names, [&](const auto& other) { return other == name; });
            if (!only_name) out.text += without_name(line, name);
        }
        if (is_entry) ++entry;
    }
    return out;
}

}  // namespace curvegate::registry
