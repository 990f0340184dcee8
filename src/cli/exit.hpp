#pragma once

#include "base/problem.hpp"
#include "base/result.hpp"

#include <expected>
#include <string>
#include <string_view>

namespace curvegate::cli {

/// What the command ends with: 0, 1 and those of sysexits.h that systemd knows by name.
namespace exit_code {
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;         ///< the answer is no
inline constexpr int kUsage = 64;         ///< the command line is wrong
inline constexpr int kBadData = 65;       ///< what was given (a key, a file) is wrong
inline constexpr int kNoInput = 66;       ///< a file is not there
inline constexpr int kUnavailable = 69;   ///< not in this version, or a program is missing
inline constexpr int kCannotCreate = 73;  ///< a file exists or cannot be written
inline constexpr int kIoError = 74;
inline constexpr int kProtocol = 76;  ///< the other end is not who it should be, or broke off
inline constexpr int kNoPermission = 77;
inline constexpr int kConfig = 78;  ///< the configuration, or a file that it names, has problems
}  // namespace exit_code

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
