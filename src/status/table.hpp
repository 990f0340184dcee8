#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Tables of fixed columns for a terminal. Every character that comes out is one cell wide.
namespace curvegate::status {

enum class Glyphs {
    unicode,
    ascii,  ///< nothing above 0x7e: for terminals and pagers without UTF-8
};

/// Text that may hold anything, as characters of one cell each: controls, what is no UTF-8 and characters
/// that may be wider or narrower than a cell are written as \xNN or \u{NNNN}.
[[nodiscard]] std::string plain(std::string_view text, Glyphs glyphs);

/// Cells of a text that plain() gave.
[[nodiscard]] std::size_t cells(std::string_view text) noexcept;

enum class Align { left, right };

/// Cut or filled to exactly `width` cells; what was cut off shows as "…" ("~" in ASCII).
[[nodiscard]] std::string fitted(std::string text, std::size_t width, Align align, Glyphs glyphs);
/// Bytes that the first `width` cells take; all of them if there are not so many.
[[nodiscard]] std::size_t bytes_of_cells(std::string_view text, std::size_t width) noexcept;
/// Cut to at most `width` cells.
[[nodiscard]] std::string clipped(std::string text, std::size_t width, Glyphs glyphs);

/// `width` cells of which `value` of `greatest` are full, by eighths; in ASCII by whole '#'. Zero is empty,
/// and anything more is at least the smallest mark.
[[nodiscard]] std::string bar(double value, double greatest, std::size_t width, Glyphs glyphs);

struct Column {
    std::string_view title;
    Align align = Align::left;
    std::size_t least = 1;  ///< cells that it needs
    std::size_t most = 1;   ///< cells that it takes if there is room
    unsigned rank = 0;      ///< where the room is too small, those of the highest rank go first, together
};

/// How wide each column is, 0 for one that is left out. Depends on the columns and the room alone, not on
/// what stands in them. The first column
/// always stays.
[[nodiscard]] std::vector<std::size_t> column_widths(const std::vector<Column>& columns, std::size_t room);

}  // namespace curvegate::status
