#include "config/include.hpp"

#include "base/bytes.hpp"
#include "config/ini.hpp"
#include "text/reading.hpp"

#include <algorithm>
#include <cstdint>

namespace curvegate::config {
namespace {

constexpr std::string_view kEnding = ".conf";

/// An `include` line of the main file.
struct Include {
    std::size_t line;
    std::string path;
};

std::vector<Include> includes_of(std::string_view text) {
    std::vector<Include> out;
    text::Lines lines(text);
    while (const auto line = lines.next()) {
        const auto parsed = lex(*line);
        if (parsed.kind == IniLine::Kind::section) break;
        // What is no full path the parser tells.
        if (parsed.kind == IniLine::Kind::setting && parsed.name == "include" &&
            parsed.value.starts_with('/'))
            out.push_back({lines.number(), std::string(parsed.value)});
    }
    return out;
}

std::expected<std::vector<std::string>, std::string> files_of(const std::string& path, const Reach& reach) {
    auto listed = reach.list(path);
    if (!listed) return std::unexpected(std::move(listed.error()));
    if (!*listed) return std::vector{path};
    std::vector<std::string> names = std::move(**listed);
    std::erase_if(names,
                  [](const std::string& name) { return !name.ends_with(kEnding) || name.starts_with('.'); });
    std::ranges::sort(names);
    for (std::string& name : names) name.insert(0, path + (path.ends_with('/') ? "" : "/"));
    return names;
}

void put(std::string& out, const std::string& text) {
    const auto size = to_be(static_cast<std::uint32_t>(text.size()));
    out += as_text(size);
    out += text;
}

std::optional<std::string> take(std::string_view& rest) {
    constexpr std::size_t kHead = sizeof(std::uint32_t);
    if (rest.size() < kHead) return std::nullopt;
    const std::size_t size = load_be<std::uint32_t>(FixedBytes<kHead>(as_bytes(rest).first<kHead>()));
    rest.remove_prefix(kHead);
    if (rest.size() < size) return std::nullopt;
    std::string out(rest.substr(0, size));
    rest.remove_prefix(size);
    return out;
}

}  // namespace

std::expected<std::vector<Source>, Problems> gather(Source main, const Reach& reach) {
    Problems problems;
    std::size_t size = main.text.size();
    const auto includes = includes_of(main.text);
    const std::string main_file = main.file;
    std::vector<Source> out;
    out.push_back(std::move(main));
    for (const Include& include : includes) {
        const auto tell = [&](const std::string& why) {
            problems.push_back({main_file, include.line, "include: " + why});
        };
        const auto files = files_of(include.path, reach);
        if (!files) {
            tell(files.error());
            continue;
        }
        for (const std::string& file : *files) {
            auto text = reach.read(file);
            if (!text) {
                tell(text.error());
                continue;
            }
            size += text->size();
            if (out.size() == kMostFiles || size > kMostText) {
                tell("the files are too many, or together too large, from " + file + " on");
                return std::unexpected(std::move(problems));
            }
            out.push_back({file, std::move(*text)});
        }
    }
    if (!problems.empty()) return std::unexpected(std::move(problems));
    return out;
}

std::string pack(const std::vector<Source>& sources) {
    std::string out;
    for (const Source& source : sources) {
        put(out, source.file);
        put(out, source.text);
    }
    return out;
}

std::optional<std::vector<Source>> unpack(std::string_view packed) {
    std::vector<Source> out;
    while (!packed.empty()) {
        auto file = take(packed);
        auto text = file ? take(packed) : std::nullopt;
        if (!text || out.size() == kMostFiles) return std::nullopt;
        out.push_back({std::move(*file), std::move(*text)});
    }
    if (out.empty()) return std::nullopt;
    return out;
}

}  // namespace curvegate::config
