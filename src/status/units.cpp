#include "status/units.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace curvegate::status {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kMinute = 60;
constexpr std::uint64_t kHour = 60 * kMinute;
constexpr std::uint64_t kDay = 24 * kHour;

std::string digits(std::uint64_t value, std::size_t width) {
    auto text = std::to_string(value);
    return text.size() < width ? std::string(width - text.size(), '0') + text : text;
}

/// Three digits of whole + hundredths / 100, or as many as the whole has.
std::string three_digits(std::uint64_t whole, std::uint64_t hundredths) {
    if (whole >= 100) return std::to_string(whole);
    if (whole >= 10) return std::to_string(whole) + "." + std::to_string(hundredths / 10);
    return std::to_string(whole) + "." + digits(hundredths, 2);
}

}  // namespace

std::string count_text(std::uint64_t count) {
    if (count < 1'000) return std::to_string(count);
    if (count < 1'000'000) return std::to_string(count / 1'000) + "," + digits(count % 1'000, 3);
    constexpr std::string_view kUnits = "MGTPE";
    std::uint64_t unit = 1'000'000;
    std::size_t which = 0;
    while (count / unit >= 1'000) {
        unit *= 1'000;
        ++which;
    }
    return three_digits(count / unit, count % unit / (unit / 100)) + kUnits[which];
}

std::string bytes_text(std::uint64_t bytes) {
    if (bytes < 1'024) return std::to_string(bytes) + " B";
    constexpr std::array<std::string_view, 6> kUnits = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned shift = 10;
    while (bytes >> shift >= 1'024) shift += 10;
    const auto thousandths = (bytes >> (shift - 10)) & 1'023;  // of 1024
    return three_digits(bytes >> shift, thousandths * 100 / 1'024) +
           std::string(kUnits[static_cast<std::size_t>(shift / 10 - 1)]);
}

std::string span_text(seconds span) {
    const auto all = static_cast<std::uint64_t>(std::max(span, seconds(0)).count());
    const std::string clock = digits(all % kDay / kHour, 2) + ":" + digits(all % kHour / kMinute, 2) + ":" +
                              digits(all % kMinute, 2);
    return all < kDay ? clock : std::to_string(all / kDay) + "d " + clock;
}

std::string age_text(seconds age) {
    const auto all = static_cast<std::uint64_t>(std::max(age, seconds(0)).count());
    if (all < kMinute) return std::to_string(all) + " s";
    if (all < kHour) return std::to_string(all / kMinute) + " min";
    if (all < 2 * kDay) return std::to_string(all / kHour) + " h";
    if (all < 1'000 * kDay) return std::to_string(all / kDay) + " d";
    return std::to_string(all / (365 * kDay)) + " y";
}

seconds between(WallTime earlier, WallTime later) noexcept {
    if (later <= earlier) return seconds(0);
    const auto from = earlier.time_since_epoch();
    const auto to = later.time_since_epoch();
    return from < seconds(0) && to > seconds::max() + from ? seconds::max() : to - from;
}

std::string time_text(WallTime time) {
    using std::chrono::sys_days;
    using std::chrono::year;
    const WallTime first = sys_days(year(0) / 1 / 1);
    const WallTime last = WallTime(sys_days(year(10'000) / 1 / 1)) - seconds(1);
    time = std::clamp(time, first, last);
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    return digits(static_cast<std::uint64_t>(static_cast<int>(date.year())), 4) + "-" +
           digits(static_cast<unsigned>(date.month()), 2) + "-" +
           digits(static_cast<unsigned>(date.day()), 2) + "T" + span_text(time - day) + "Z";
}

std::uint64_t whole(double value) noexcept {
    constexpr double kTooMuch = 18'446'744'073'709'551'616.0;  // 2^64
    if (!(value > 0)) return 0;
    return value < kTooMuch ? static_cast<std::uint64_t>(value) : ~std::uint64_t{0};
}

}  // namespace curvegate::status
