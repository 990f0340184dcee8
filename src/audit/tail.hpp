#pragma once

#include "audit/line.hpp"

#include <cstddef>
#include <optional>

namespace curvegate::audit {

/// What the last bytes of a file say to a writer that goes on behind them.
struct Tail {
    std::optional<Link> last;  ///< nothing: no line is whole
    std::size_t torn = 0;      ///< bytes behind the last whole line, which a writer must cut off
};

/// Enough of a file's last bytes for any line and what a crash left behind it.
inline constexpr std::size_t kTailWindow = 4 * kLongestLine;

enum class Window { whole_file, end_of_it };
/// Only what began as one of our lines, or zeros (a file system after a power cut), counts as torn. Errors:
/// bad_form, hash_differs.
[[nodiscard]] Result<Tail> read_tail(std::string_view bytes, Window window);

}  // namespace curvegate::audit
