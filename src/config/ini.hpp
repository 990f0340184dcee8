#pragma once

#include <string>
#include <string_view>

namespace curvegate::config {

/// What one line of a configuration file is, before anybody asks what its words mean.
struct IniLine {
    enum class Kind {
        blank,    ///< empty or a comment
        section,  ///< [name]
        setting,  ///< name = value; the value is not empty
        bad,      ///< none of these: `problem` says why
    };
    Kind kind = Kind::blank;
    std::string_view name;
    std::string_view value;
    std::string problem;
};

/// Reads a line without its end. A comment is a line that begins with ; or #, or white space and ; to the
/// line's end. The views are parts of `line`.
[[nodiscard]] IniLine lex(std::string_view line);

/// What to add to the words on a value that is wrong because a comment behind it begins with #; else nothing.
[[nodiscard]] std::string_view comment_hint(std::string_view value);

}  // namespace curvegate::config
