#pragma once

#include "status/text.hpp"

/// What text.cpp puts on the page. Nobody else includes this.
namespace curvegate::status::parts {

enum class Kind { ordinary, title, trouble };
struct Line {
    std::string text;
    Kind kind = Kind::ordinary;
};

/// A table before it is known how many of its rows there is room for.
struct Section {
    Line title;
    std::vector<Line> rows;
    std::size_t few = 3;         ///< rows that matter more than all rows of another section
    std::uint64_t left_out = 0;  ///< rows that nobody made
};

struct View {
    const Snapshot& snapshot;
    const Rates* rates;  ///< may be null
    Glyphs glyphs;
    std::size_t width;          ///< cells
    std::size_t height;         ///< lines
    std::size_t service_names;  ///< cells of the longest
    std::size_t peer_names;
};

[[nodiscard]] View view_of(const Snapshot& snapshot, const Rates* rates, const Screen& screen);

/// What runs, what goes on, what is wrong.
[[nodiscard]] std::vector<Line> head(const View& view);
/// Services, peers, refusals, connections; without those that have no rows.
[[nodiscard]] std::vector<Section> sections(const View& view);

}  // namespace curvegate::status::parts
