#include "config/ini.hpp"

#include "text/reading.hpp"

namespace curvegate::config {
namespace {

using text::is_blank;
using text::quoted;
using text::trim;

std::string_view without_comment(std::string_view line) {
    for (std::size_t i = 1; i < line.size(); ++i) {
        if (line[i] == ';' && is_blank(line[i - 1])) return trim(line.substr(0, i));
    }
    return line;
}

IniLine bad(std::string problem) {
    return {IniLine::Kind::bad, {}, {}, std::move(problem)};
}

IniLine lex_section(std::string_view content) {
    if (!content.ends_with(']')) return bad("the ] is missing: a section begins with a line [name]");
    const auto name = trim(content.substr(1, content.size() - 2));
    if (name.empty()) return bad("a section has a name: [name]");
    return {IniLine::Kind::section, name, {}, {}};
}

}  // namespace

IniLine lex(std::string_view line) {
    if (auto why = text::why_not_text(line)) return bad(std::move(*why));
    auto content = trim(line);
    if (content.empty() || content.front() == ';' || content.front() == '#') return {};
    content = without_comment(content);
    if (content.front() == '[') return lex_section(content);
    const auto equals = content.find('=');
    if (equals == std::string_view::npos)
        return bad("want \"key = value\" or [section], not " + quoted(content));
    const auto name = trim(content.substr(0, equals));
    const auto value = trim(content.substr(equals + 1));
    if (name.empty()) return bad("no key before the =");
    if (value.empty()) return bad(quoted(name) + " has no value");
    return {IniLine::Kind::setting, name, value, {}};
}

std::string_view comment_hint(std::string_view value) {
    const bool has_one = value.contains(" #") || value.contains("\t#");
    return has_one ? "; a comment behind a value begins with ;, not with #" : "";
}

}  // namespace curvegate::config
