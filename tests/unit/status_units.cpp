#include "base/utf8.hpp"
#include "status/units.hpp"
#include "status_samples.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

namespace curvegate::status {
namespace {

using namespace std::chrono_literals;

TEST_CASE("a count has at most seven characters", "[status]") {
    CHECK(count_text(0) == "0");
    CHECK(count_text(999) == "999");
    CHECK(count_text(1'000) == "1,000");
    CHECK(count_text(12'034) == "12,034");
    CHECK(count_text(999'999) == "999,999");
    CHECK(count_text(1'000'000) == "1.00M");
    CHECK(count_text(1'999'999) == "1.99M");
    CHECK(count_text(12'345'678) == "12.3M");
    CHECK(count_text(999'999'999) == "999M");
    CHECK(count_text(1'000'000'000) == "1.00G");
    CHECK(count_text(kHuge) == "18.4E");
    for (std::uint64_t n = 1; n < kHuge / 3; n *= 3) CHECK(count_text(n).size() <= 7);
}

TEST_CASE("bytes have at most eight characters", "[status]") {
    CHECK(bytes_text(0) == "0 B");
    CHECK(bytes_text(1'023) == "1023 B");
    CHECK(bytes_text(1'024) == "1.00 KiB");
    CHECK(bytes_text(1'536) == "1.50 KiB");
    CHECK(bytes_text(10'239) == "9.99 KiB");
    CHECK(bytes_text(100 * 1'024) == "100 KiB");
    CHECK(bytes_text(1'048'575) == "1023 KiB");
    CHECK(bytes_text(1'048'576) == "1.00 MiB");
    CHECK(bytes_text(kHuge) == "15.9 EiB");
    for (std::uint64_t n = 1; n < kHuge / 3; n *= 3) CHECK(bytes_text(n).size() <= 8);
}

TEST_CASE("spans and ages", "[status]") {
    CHECK(span_text(0s) == "00:00:00");
    CHECK(span_text(15'175s) == "04:12:55");
    CHECK(span_text(86'399s) == "23:59:59");
    CHECK(span_text(3 * 86'400s + 1s) == "3d 00:00:01");
    CHECK(span_text(-5s) == "00:00:00");
    CHECK(age_text(0s) == "0 s");
    CHECK(age_text(59s) == "59 s");
    CHECK(age_text(60s) == "1 min");
    CHECK(age_text(3'599s) == "59 min");
    CHECK(age_text(3'600s) == "1 h");
    CHECK(age_text(47h) == "47 h");
    CHECK(age_text(48h) == "2 d");
    CHECK(age_text(999 * 24h) == "999 d");
    CHECK(age_text(1'100 * 24h) == "3 y");
    CHECK(age_text(-1s) == "0 s");
}

TEST_CASE("a moment is written as RFC 3339 and stays within four digits of a year", "[status]") {
    CHECK(time_text(kNoon) == "2026-11-22T12:00:00Z");
    CHECK(time_text(WallTime(-1s)) == "1969-12-31T23:59:59Z");
    CHECK(time_text(WallTime::max()) == "9999-12-31T23:59:59Z");
    CHECK(time_text(WallTime::min()) == "0000-01-01T00:00:00Z");
}

TEST_CASE("the time between two moments never overflows", "[status]") {
    CHECK(between(kNoon - 5s, kNoon) == 5s);
    CHECK(between(kNoon, kNoon - 5s) == 0s);
    CHECK(between(WallTime(-5s), WallTime(5s)) == 10s);
    CHECK(between(WallTime::min(), WallTime::max()) == std::chrono::seconds::max());
    CHECK(between(WallTime(-1s), WallTime::max()) == std::chrono::seconds::max());
}

TEST_CASE("a rate becomes a whole number that fits", "[status]") {
    CHECK(whole(2.9) == 2);
    CHECK(whole(-1) == 0);
    CHECK(whole(std::nan("")) == 0);
    CHECK(whole(1e30) == kHuge);
    CHECK(whole(std::numeric_limits<double>::infinity()) == kHuge);
}

TEST_CASE("characters are taken as RFC 3629 allows them", "[status]") {
    struct Case {
        std::string text;
        char32_t value;
        std::size_t size;
    };
    for (const auto& [text, value, size] :
         {Case{"a", 'a', 1}, Case{"\xc2\x80", 0x80, 2}, Case{"\xc3\xa9", 0xe9, 2}, Case{"\xdf\xbf", 0x7ff, 2},
          Case{"\xe0\xa0\x80", 0x800, 3}, Case{"\xed\x9f\xbf", 0xd7ff, 3}, Case{"\xee\x80\x80", 0xe000, 3},
          Case{"\xef\xbf\xbf", 0xffff, 3}, Case{"\xf0\x90\x80\x80", 0x1'0000, 4},
          Case{"\xf4\x8f\xbf\xbf", 0x10'ffff, 4}}) {
        CAPTURE(text, value);
        const auto got = first_of(text);
        CHECK((got.valid && got.value == value && got.size == size));
        for (std::size_t cut = 1; cut < size; ++cut) CHECK_FALSE(first_of(text.substr(0, cut)).valid);
        std::string again;
        append_utf8(again, value);
        CHECK(again == text);
    }
    for (const std::string text :
         {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3(", "\xe2\x80("}) {
        CAPTURE(text);
        CHECK_FALSE(first_of(text).valid);
        CHECK(first_of(text).size == 1);
    }
}

TEST_CASE("rates are differences over the time between", "[status]") {
    const auto before = small_snapshot();
    auto after = before;
    after.uptime += 2s;
    after.services[0].traffic = {3'072 + 4'096, 1'024 + 1};
    after.services[0].handshakes += 6;
    after.services[1].traffic.bytes_in = 2;
    after.peers[0].traffic.bytes_out += 100;
    const auto got = rates(before, after);
    CHECK(got.services.at("web").bytes_in == 2'048);
    CHECK(got.services.at("web").bytes_out == 0.5);
    CHECK(got.services.at("web").handshakes == 3);
    CHECK(got.total.bytes_in == 2'049);
    CHECK(got.total.handshakes == 3);
    CHECK(got.peers.at("laptop").bytes_out == 50);
    CHECK(got.peers.at("phone").bytes_in == 0);
}

TEST_CASE("rates are zero where nothing can be said", "[status]") {
    const auto before = small_snapshot();
    auto after = before;
    after.services[0].traffic.bytes_in += 100;
    SECTION("no time went by") {}
    SECTION("time went back") {
        after.uptime -= 1s;
    }
    SECTION("another daemon") {
        after.uptime += 1s;
        after.started += 1s;
    }
    SECTION("a counter fell") {
        after.uptime += 1s;
        after.services[0].traffic.bytes_in = 0;
    }
    CHECK(rates(before, after).services.at("web").bytes_in == 0);
    CHECK(rates(before, after).total.bytes_in == 0);
}

TEST_CASE("what came since counts from nothing, and names that come twice are one", "[status]") {
    auto before = small_snapshot();
    auto after = before;
    after.uptime += 1s;
    before.services.erase(before.services.begin());
    after.services.push_back(after.services[0]);
    CHECK(rates(before, after).services.at("web").bytes_in == 2 * 3'072);
    CHECK(rates({}, {}).services.empty());
}

}  // namespace
}  // namespace curvegate::status
