#pragma once

#include "config/config.hpp"

#include <cstddef>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// `include =`: which files make a configuration. No file is opened here; who calls says how.
namespace curvegate::config {

inline constexpr std::size_t kMostFiles = 1'000;
inline constexpr std::size_t kMostText = std::size_t{16} << 20;  ///< bytes, of all files together

/// How files are reached.
struct Reach {
    /// The text of a file, or why not.
    std::function<std::expected<std::string, std::string>(const std::string& path)> read;
    /// The names in a folder, in any order, or why not; nullopt if it is no folder.
    std::function<std::expected<std::optional<std::vector<std::string>>, std::string>(
        const std::string& path)>
        list;
};

/// The main file, and after it those that its `include` lines name: of a folder all whose name ends in .conf
/// and begins with no dot, in the order of their names. Problems: at the line of `include`, a file that
/// cannot be read, too many files or too much text.
[[nodiscard]] std::expected<std::vector<Source>, Problems> gather(Source main, const Reach& reach);

/// All of them in one text, to hand them over, and back. `unpack` returns nullopt for a text that `pack` did
/// not make.
[[nodiscard]] std::string pack(const std::vector<Source>& sources);
[[nodiscard]] std::optional<std::vector<Source>> unpack(std::string_view packed);

}  // namespace curvegate::config
