#include "audit/limiter.hpp"
#include "audit/line.hpp"
#include "crypto/hash.hpp"
#include "support/bytes.hpp"

#include <catch2/catch.hpp>

namespace curvegate::audit {
namespace {

using namespace std::chrono_literals;

constexpr WallTime kAt{std::chrono::seconds(1'763'812'800)};  // 2025-11-22T12:00:00Z

Entry everything() {
    return {"handshake_ok", "web", "laptop", "KEY=", "192.0.2.1:4000", "why", "uid 0", 3, 2};
}

TEST_CASE("a line is byte for byte what PROTOCOL 11.5 shows", "[audit]") {
    const Line line = line_after({}, everything(), kAt);
    CHECK(line.text ==
          R"({"seq":1,"ts":"2025-11-22T12:00:00Z","event":"handshake_ok","service":"web","peer":"laptop",)"
          R"("key":"KEY=","src":"192.0.2.1:4000","reason":"why","by":"uid 0","generation":3,"count":2,)"
          R"("prev":"0000000000000000000000000000000000000000000000000000000000000000",)"
          R"("hash":"5325e4d078d6592f44dd62753716aafe90f0a2f3e8354820a9e0d08a7d56f9cf"})");
    CHECK(line.link.sequence == 1);
    CHECK(line.text.ends_with(line.link.hash + "\"}"));
}

TEST_CASE("each line carries the number and the hash that follow from the one before", "[audit]") {
    const Line first = line_after({}, everything(), kAt);
    const Line second = line_after(first.link, everything(), kAt + 1s);
    CHECK(second.link.sequence == 2);
    const auto parsed = parse_line(second.text);
    REQUIRE(parsed);
    CHECK(parsed->link == second.link);
    CHECK(parsed->previous == first.link.hash);
    CHECK(parsed->time == "2025-11-22T12:00:01Z");
}

TEST_CASE("whatever bytes a text holds, the line is one line that reads back", "[audit]") {
    std::string all;
    for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
    for (const auto& text : {all, std::string(10'000, '"'), std::string(10'000, '\0'), std::string("\\")}) {
        const Line line = line_after({}, {text, text, text, text, text, text, text, ~0ULL, ~0ULL}, kAt);
        CHECK(line.text.size() + 1 <= kLongestLine);
        CHECK(line.text.find('\n') == std::string::npos);
        CHECK(parse_line(line.text).has_value());
    }
}

TEST_CASE("a line with any byte changed, cut short or longer is refused", "[audit]") {
    const std::string good = line_after({}, everything(), kAt).text;
    REQUIRE(parse_line(good));
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string bad = good;
            bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
            CAPTURE(at, bit);
            CHECK_FALSE(parse_line(bad));
        }
        CHECK_FALSE(parse_line(std::string_view(good).substr(0, at)));
    }
    CHECK_FALSE(parse_line(good + " "));
    CHECK_FALSE(parse_line(" " + good));
}

TEST_CASE("a line of another form is refused even under its right hash", "[audit]") {
    const std::string good = line_after({}, everything(), kAt).text;
    const auto rehashed = [&](std::string_view from, std::string_view to) {
        std::string text = good.substr(0, good.find(",\"hash\""));
        text.replace(text.find(from), from.size(), to);
        const auto hash = crypto::blake2b_256(as_bytes(text));
        return text + ",\"hash\":\"" + test::hex(hash) + "\"}";
    };
    CHECK(parse_line(rehashed("web", "wed")));
    for (const auto& [from, to] :
         std::vector<std::pair<std::string, std::string>>{{"\"seq\":1", "\"seq\":0"},
                                                          {"\"seq\":1", "\"seq\":01"},
                                                          {"\"seq\":1", "\"seq\":18446744073709551616"},
                                                          {"\"seq\":1", "\"seq\": 1"},
                                                          {"\"count\":2,", ""},
                                                          {"web", "w\teb"},
                                                          {"\"prev\":\"0", "\"prev\":\"A"},
                                                          {"\"prev\":\"0", "\"prev\":\""}}) {
        CAPTURE(from, to);
        const auto parsed = parse_line(rehashed(from, to));
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error().is(Errc::bad_form));
    }
}

TEST_CASE("who causes many alike decisions gets a burst of lines, then few, and every one is counted",
          "[audit]") {
    Limiter limiter;
    Instant now{};
    std::uint64_t lines = 0;
    std::uint64_t told = 0;
    constexpr std::uint64_t kHour = 3'600;
    for (std::uint64_t second = 0; second < kHour; ++second, now += 1s) {
        for (int i = 0; i < 100; ++i) {
            const auto count = limiter.take("stranger", now);
            lines += count != 0 ? 1 : 0;
            told += count;
        }
    }
    CHECK(lines <= 20 + 360);
    CHECK(lines >= 20 + 350);
    limiter.drain([&](const std::string& word, std::uint64_t count) {
        CHECK(word == "stranger");
        told += count;
    });
    CHECK(told == 100 * kHour);
    CHECK(limiter.take("another", now) == 1);
}

TEST_CASE("words beyond what the limiter keeps share one", "[audit]") {
    Limiter limiter;
    std::uint64_t lines = 0;
    constexpr std::size_t kWords = 2 * Limiter::kMostWords;
    for (std::size_t i = 0; i < kWords; ++i) lines += limiter.take(std::to_string(i), Instant{}) != 0 ? 1 : 0;
    CHECK(lines == Limiter::kMostWords + 20);
}

}  // namespace
}  // namespace curvegate::audit
