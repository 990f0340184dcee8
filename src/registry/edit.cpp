#include "registry/edit.hpp"

#include "registry/text.hpp"

#include <algorithm>

namespace curvegate::registry {
namespace {

/// The line, which is good and holds other names too, without this one.
std::string without_name(std::string_view line, std::string_view name) {
    Words words(line);
    auto list = words.next();
    while (list.starts_with('@') || list.contains('=')) list = words.next();
    std::string kept;
    Parts parts(list, ',');
    while (const auto part = parts.next()) {
        if (*part == name) continue;
        if (!kept.empty()) kept += ',';
        kept += *part;
    }
    const auto start = static_cast<std::size_t>(list.data() - line.data());
    return std::string(line.substr(0, start)) + kept + std::string(line.substr(start + list.size()));
}

}  // namespace

std::string append_entry(std::string_view text, const Entry& entry) {
    std::string out(text);
    if (!out.empty() && !out.ends_with('\n')) out += '\n';
    return out + format(entry) + '\n';
}

Removal remove_name(std::string_view text, const std::vector<Entry>& entries, std::string_view name) {
    Removal out;
    text = without_byte_order_mark(text);
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
