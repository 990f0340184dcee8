#pragma once

#include "base/time.hpp"

#include <cstdint>
#include <string>

/// Numbers and times as people read them. Each form has a greatest length, so that columns can stand still.
namespace curvegate::status {

/// "999,999", from there on "1.23M", "12.3M", "123M" up to E: at most 7 characters. Rounded down.
[[nodiscard]] std::string count_text(std::uint64_t count);
/// "1023 B", "1.23 KiB", "12.3 KiB", "123 KiB", "1023 KiB" up to EiB: at most 8 characters. Rounded down.
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);
/// "04:12:55", from a day on "3d 04:12:55". Negative: as zero.
[[nodiscard]] std::string span_text(std::chrono::seconds span);
/// "59 s", "59 min", "47 h", "999 d", then "3 y": at most 6 characters up to 9,999 years. Negative: as zero.
[[nodiscard]] std::string age_text(std::chrono::seconds age);
/// From `earlier` to `later`; zero if that is no later, and no more than fits.
[[nodiscard]] std::chrono::seconds between(WallTime earlier, WallTime later) noexcept;
/// "2026-11-22T12:00:00Z" (RFC 3339); years before 0 and after 9999 as the nearest of these.
[[nodiscard]] std::string time_text(WallTime time);
/// Not negative, not more than fits; no number is 0.
[[nodiscard]] std::uint64_t whole(double value) noexcept;

}  // namespace curvegate::status
