#pragma once

#include "status/snapshot.hpp"
#include "status/table.hpp"

namespace curvegate::status {

enum class Paint {
    none,
    ansi,  ///< titles bold, troubles red, by SGR sequences, which take no cells
};

struct Screen {
    std::size_t width = 80;  ///< cells; 0: no limit
    std::size_t height = 0;  ///< lines; 0: no limit
    Glyphs glyphs = Glyphs::unicode;
    Paint paint = Paint::none;
};

/// The state for people: a head, tables of services and peers, refusals by reason, and the newest connections
/// as room allows. Each line ends with LF; none is wider and there are no more than `screen` says (who fills
/// a whole screen leaves out the last LF, so that nothing scrolls). With `rates` traffic is shown a second,
/// without as sums since the start. Columns stand still while names and screen stay: it may be drawn again
/// and again in one place.
[[nodiscard]] std::string render_text(const Snapshot& snapshot, const Rates* rates, const Screen& screen);

}  // namespace curvegate::status
