#include "registry/dates.hpp"

#include "registry/known_hosts.hpp"

#include <array>
#include <cstdio>
#include <string_view>

namespace curvegate::registry {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::sys_days;
using std::chrono::year_month_day;

/// What four digits of a year can say, so that every date can be written again.
constexpr WallTime kFirst = sys_days(std::chrono::year(0) / 1 / 1);
constexpr WallTime kLast = sys_days(std::chrono::year(10'000) / 1 / 1);

/// Takes fixed-width fields off a text; once one was wrong, everything after is.
class Fields {
  public:
    explicit Fields(std::string_view text) noexcept : rest_(text) {}

    /// `width` decimal digits, at most `highest`.
    int number(std::size_t width, int highest) noexcept {
        if (rest_.size() < width) good_ = false;
        if (!good_) return 0;
        int value = 0;
        for (const char c : rest_.substr(0, width)) {
            if (c < '0' || c > '9') good_ = false;
            value = value * 10 + (c - '0');
        }
        rest_.remove_prefix(width);
        if (value > highest) good_ = false;
        return value;
    }
    /// One character of `choice`, which is given back.
    char one_of(std::string_view choice) noexcept {
        if (rest_.empty() || !choice.contains(rest_.front())) good_ = false;
        if (!good_) return '\0';
        const char c = rest_.front();
        rest_.remove_prefix(1);
        return c;
    }
    /// ".123": digits of a second, which are dropped: the entry ends early rather than late.
    void fraction() noexcept {
        if (!rest_.starts_with('.')) return;
        const auto end = rest_.find_first_not_of("0123456789", 1);
        if (end == 1 || end == std::string_view::npos) good_ = false;
        if (good_) rest_.remove_prefix(end);
    }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }
    [[nodiscard]] bool good() const noexcept { return good_; }

  private:
    std::string_view rest_;
    bool good_ = true;
};

/// "+01:30", "-08:00" or "Z", as what to add to the local time to get UTC.
seconds offset_to_utc(Fields& fields) noexcept {
    const char sign = fields.one_of("Zz+-");
    if (sign == 'Z' || sign == 'z') return seconds(0);
    const int hour = fields.number(2, 23);
    fields.one_of(":");
    const seconds ahead = hours(hour) + minutes(fields.number(2, 59));
    return sign == '+' ? -ahead : ahead;
}

}  // namespace

std::optional<WallTime> parse_valid_until(std::string_view text) {
    Fields fields(text);
    const int year = fields.number(4, 9999);
    fields.one_of("-");
    const int month = fields.number(2, 12);
    fields.one_of("-");
    const int day = fields.number(2, 31);
    const year_month_day date(std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                              std::chrono::day(static_cast<unsigned>(day)));
    if (!fields.good() || !date.ok()) return std::nullopt;
    if (fields.at_end()) return sys_days(date) + days(1);  // through that day

    fields.one_of("Tt ");
    seconds time = hours(fields.number(2, 23));
    fields.one_of(":");
    time += minutes(fields.number(2, 59));
    fields.one_of(":");
    time += seconds(fields.number(2, 60));  // RFC 3339 5.6: 60 is a leap second
    fields.fraction();
    const WallTime until = sys_days(date) + time + offset_to_utc(fields);
    if (!fields.good() || !fields.at_end() || until < kFirst || until > kLast) return std::nullopt;
    return until;
}

std::string format_valid_until(WallTime until) {
    const auto midnight = std::chrono::floor<days>(until);
    const bool whole_days = until == midnight && until > kFirst;
    const year_month_day date(whole_days ? midnight - days(1) : midnight);
    const std::chrono::hh_mm_ss time(until - midnight);
    std::array<char, 64> out{};
    const auto size =
        static_cast<std::size_t>(std::snprintf(out.data(), out.size(), "%04d-%02u-%02u", int(date.year()),
                                               unsigned(date.month()), unsigned(date.day())));
    if (!whole_days) {
        std::snprintf(out.data() + size, out.size() - size, "T%02ld:%02ld:%02ldZ", long(time.hours().count()),
                      long(time.minutes().count()), long(time.seconds().count()));
    }
    return out.data();
}

}  // namespace curvegate::registry
