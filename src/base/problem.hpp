#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace curvegate {

/// A mistake in a file that a person wrote: where it is, what is wrong and what to do.
struct Problem {
    std::string file;
    std::size_t line = 0;  ///< from 1; 0: the file as a whole
    std::string text;

    /// "FILE:LINE: TEXT"
    [[nodiscard]] std::string message() const {
        return file + (line != 0 ? ":" + std::to_string(line) : "") + ": " + text;
    }
    friend bool operator==(const Problem&, const Problem&) = default;
};
using Problems = std::vector<Problem>;

}  // namespace curvegate
