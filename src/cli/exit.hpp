#pragma once

#include "base/exit_code.hpp"
#include "base/problem.hpp"
#include "base/result.hpp"

#include <expected>
#include <string>
#include <string_view>

namespace curvegate::cli {

/// A value, or the exit code of a failure that was already told on standard error.
template <class T = void>
using Outcome = std::expected<T, int>;

/// Prints "curvegate: TEXT" on standard error and gives `code`.
int complain(int code, std::string_view text);
/// Prints each as FILE:LINE: TEXT on standard error; a `kind` ("warning: ") goes before the text.
void complain(const Problems& problems, std::string_view kind = {});
/// Prints a line on standard output.
void print(std::string_view line);
/// kOk, or a complaint if standard output did not take everything.
[[nodiscard]] int finish_output();

/// Why `path` could not be read, as an exit code: not there, or not for us.
[[nodiscard]] int exit_for_reading(const std::string& path);
/// The same for a file that could not be made or replaced.
[[nodiscard]] int exit_for_writing(const std::string& path);

}  // namespace curvegate::cli
