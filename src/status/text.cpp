#include "status/text.hpp"

#include "status/text_parts.hpp"

#include <algorithm>
#include <utility>

namespace curvegate::status {
namespace {

using parts::Kind;
using parts::Line;
using parts::Section;

constexpr std::size_t kFrame = 2;  ///< lines of a section beside its rows: a blank one and its title

/// How many lines each section gets, 0 for one that is left out. The first few rows of each come first, then
/// the sections in their order take what they want; so connections, the last, get what is over.
std::vector<std::size_t> share_out(const std::vector<Section>& sections, std::size_t room) {
    std::vector<std::size_t> lines(sections.size());
    const auto wanted = [&](std::size_t i) {
        return kFrame + sections[i].rows.size() + (sections[i].left_out != 0 ? 1 : 0);
    };
    for (std::size_t i = 0; i < sections.size(); ++i) {
        const auto least = std::min(wanted(i), kFrame + sections[i].few);
        if (least > room) continue;
        lines[i] = least;
        room -= least;
    }
    for (std::size_t i = 0; i < sections.size(); ++i) {
        if (lines[i] == 0) continue;
        const auto more = std::min(wanted(i) - lines[i], room);
        lines[i] += more;
        room -= more;
    }
    return lines;
}

/// The section in exactly `lines` lines: the last of them tells how many rows are missing, if any are.
void append(std::vector<Line>& page, Section section, std::size_t lines) {
    if (lines == 0) return;
    std::size_t shown = lines - kFrame;
    std::uint64_t missing = section.left_out;
    if (missing != 0 || shown < section.rows.size()) {
        --shown;
        const std::uint64_t unseen = section.rows.size() - shown;
        missing = unseen + std::min(missing, ~std::uint64_t{0} - unseen);
    }
    page.push_back({});
    page.push_back(std::move(section.title));
    for (std::size_t i = 0; i < shown; ++i) page.push_back(std::move(section.rows[i]));
    if (missing != 0) page.push_back({"... and " + std::to_string(missing) + " more"});
}

std::string painted(std::string text, Kind kind, Paint paint) {
    if (paint == Paint::none || kind == Kind::ordinary || text.empty()) return text;
    return (kind == Kind::title ? "\x1b[1m" : "\x1b[1;31m") + text + "\x1b[0m";
}

}  // namespace

std::string render_text(const Snapshot& snapshot, const Rates* rates, const Screen& screen) {
    const auto view = parts::view_of(snapshot, rates, screen);
    auto page = parts::head(view);
    auto sections = parts::sections(view);
    const auto lines = share_out(sections, view.height - std::min(view.height, page.size()));
    for (std::size_t i = 0; i < sections.size(); ++i) append(page, std::move(sections[i]), lines[i]);
    page.resize(std::min(page.size(), view.height));

    std::string out;
    for (auto& line : page) {
        auto text = clipped(std::move(line.text), view.width, screen.glyphs);
        text.erase(text.find_last_not_of(' ') + 1);
        out += painted(std::move(text), line.kind, screen.paint) + "\n";
    }
    return out;
}

}  // namespace curvegate::status
