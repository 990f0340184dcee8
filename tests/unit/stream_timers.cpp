#include "support/stream_messages.hpp"

#include <catch2/catch.hpp>

/// When a stream speaks up by itself: probes, keepalives, and what it gives back when nothing happens.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

/// The times between what goes out while nobody answers.
std::vector<Duration> silence(Alone& end, std::size_t count) {
    std::vector<Duration> out;
    Instant last = end.now;
    while (out.size() < count) {
        if (end.wait().empty()) continue;
        out.push_back(end.now - last);
        last = end.now;
    }
    return out;
}
bool is_about(Duration a, Duration b) {
    return a >= b - 1ms && a <= b + 1ms;
}

TEST_CASE("probes go out after a probe timeout, twice as late each time, and at the latest every 10 s",
          "[stream]") {
    const bool ours = GENERATE(true, false);
    Alone end({}, ours);
    end.write(1'000);
    REQUIRE(end.all().size() == 1);
    const auto times = silence(end, 10);
    // 100 ms + 4 * 50 ms + 5 ms: no round trip is known
    Duration expected = 305ms;
    for (const auto& time : times) {
        INFO(std::chrono::duration<double>(time).count());
        CHECK(is_about(time, std::min<Duration>(expected, 10s)));
        expected *= 2;
    }
    CHECK(end.stream.statistics().timeouts == 10);
    CHECK(end.stream.silent_since() == kNoon);
    CHECK(end.give_ack(1'000).has_value());
    CHECK(end.stream.silent_since() == std::nullopt);
}

TEST_CASE("an answer that brings something new ends the back-off", "[stream]") {
    Alone end;
    end.write(2'048);
    REQUIRE(end.all().size() == 2);
    (void)silence(end, 4);
    CHECK(end.give_ack(1'024).has_value());
    const auto times = silence(end, 1);
    CHECK(times[0] <= 306ms);
}

TEST_CASE("a probe is two blocks at first, later one", "[stream]") {
    Alone end;
    end.write(5 * 1'024);
    REQUIRE(end.all().size() == 5);
    for (const std::size_t expected : {2U, 2U, 1U, 1U, 1U}) {
        const auto said = end.wait();
        REQUIRE(said.size() == expected);
        CHECK(said[0].message.position == 0);
        if (expected == 2) CHECK(said[1].message.position == 1'024);
    }
}

TEST_CASE("probes do not wait for window or pace", "[stream]") {
    Alone end;
    end.write(1 << 18);
    CHECK(end.all().size() == 10);
    while (end.now < kNoon + 300ms) CHECK(end.wait().size() <= 2);
    CHECK(end.stream.statistics().in_flight > end.stream.statistics().window);
}

TEST_CASE("when all of a long time is lost the window is two segments", "[stream]") {
    Alone end;
    end.stream.want_ping();
    const auto ping = end.all();
    REQUIRE(ping.size() == 1);
    end.now += 2ms;
    CHECK(end.give_ack(0, ping[0].message.id.value).has_value());
    end.write(8 * 1'024);
    REQUIRE(end.all().size() == 8);
    std::uint32_t last = 0;
    while (end.now < kNoon + 200ms)
        for (const auto& one : end.wait()) last = one.message.id.value;
    CHECK(end.give_ack(0, last).has_value());
    CHECK(end.stream.statistics().window == 2 * 1'088);
    CHECK(end.stream.statistics().lost >= 8);
}

TEST_CASE("a ping goes out once when it is wanted, and again until anything is heard", "[stream]") {
    Alone end;
    end.stream.want_ping();
    auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].is_ping());
    CHECK(said[0].message.position == 0);
    CHECK(said[0].bytes.size() == 64);
    CHECK(end.all().empty());
    CHECK_FALSE(end.stream.has_sent_bytes());
    CHECK(end.stream.silent_since() == end.now);
    const auto times = silence(end, 3);
    CHECK(is_about(times[0], 305ms));
    CHECK(is_about(times[1], 610ms));
    CHECK(is_about(times[2], 1'220ms));
    CHECK(end.give_block(1, 0, 10).has_value());
    CHECK(end.stream.silent_since() == std::nullopt);
    end.now += 5ms;
    CHECK(end.all().size() == 1);  // the acknowledgment
    end.now += 10s;
    CHECK(end.all().empty());
}

TEST_CASE("data does for a ping", "[stream]") {
    Alone end;
    end.stream.want_ping();
    end.write(100);
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.block.size() == 100);
}

TEST_CASE("when the peer's limit stops us, pings ask for it ever more seldom", "[stream]") {
    Alone end;
    end.limit = 3'000;
    CHECK(end.give_ack(0).has_value());
    end.write(10'000);
    auto said = end.all();
    std::uint64_t last = 0;
    std::uint32_t id = 0;
    for (const auto& one : said) last = std::max(last, one.message.position + one.message.block.size());
    CHECK(last <= 3'000);
    end.now += 10ms;
    CHECK(end.give_ack(last, said.back().message.id.value).has_value());
    said = end.all();
    if (last < 3'000) {  // room for less than a block is used when nothing else is on the way
        REQUIRE(said.size() >= 1);
        CHECK(said.back().message.position + said.back().message.block.size() == 3'000);
        end.now += 10ms;
        CHECK(end.give_ack(3'000, said.back().message.id.value).has_value());
    }
    Duration before{};
    for (int i = 0; i < 6; ++i) {
        const Instant asked = end.now;
        said = end.wait();
        while (said.empty()) said = end.wait();
        REQUIRE(said.size() == 1);
        CHECK(said[0].is_ping());
        id = said[0].message.id.value;
        CHECK(end.now - asked > before * 3 / 2);
        before = end.now - asked;
        end.now += 10ms;
        CHECK(end.give_ack(3'000, id).has_value());
    }
    CHECK(before < 10s);
    end.limit = 10'000;
    CHECK(end.give_ack(3'000).has_value());
    CHECK_FALSE(end.all().empty());
}

TEST_CASE("a smaller limit than one before does not count", "[stream]") {
    Alone end;
    end.limit = 5'000;
    CHECK(end.give_ack(0).has_value());
    end.limit = 100;
    CHECK(end.give_ack(0).has_value());
    end.write(4'096);
    std::size_t bytes = 0;
    for (const auto& one : end.all()) bytes += one.message.block.size();
    CHECK(bytes == 4'096);
}

TEST_CASE("another peer gets at most 131072 bytes, and 60 messages on a short path", "[stream]") {
    Alone end({}, false);
    end.write(1 << 20);
    std::uint64_t acked = 0;
    std::size_t most_bytes = 0;
    std::size_t most_messages = 0;
    const auto trip = GENERATE(as<Duration>{}, 200us, 50ms);
    for (int i = 0; i < 40; ++i) {
        std::vector<Said> said;
        end.write(1 << 20);
        const Instant until = end.now + trip;
        for (;;) {
            for (auto& one : end.all()) said.push_back(std::move(one));
            const auto next = end.stream.next_deadline();
            if (!next || *next > until) break;
            end.now = std::max(end.now, *next);
        }
        end.now = until;
        most_messages = std::max(most_messages, said.size());
        std::uint64_t top = acked;
        for (const auto& one : said) top = std::max(top, one.message.position + one.message.block.size());
        most_bytes = std::max<std::size_t>(most_bytes, top - acked);
        for (const auto& one : said) {
            acked = std::max(acked, one.message.position + one.message.block.size());
            CHECK(end.give_ack(acked, one.message.id.value).has_value());
        }
    }
    CHECK(most_bytes <= 131'072);
    if (trip < 1ms) CHECK(most_messages <= 60);
    if (trip > 1ms) CHECK(most_bytes > 120'000);
}

TEST_CASE("nothing heard for a keepalive: a ping", "[stream]") {
    Alone end({.keepalive = 20s});
    CHECK(end.stream.next_deadline() == kNoon + 20s);
    end.now = kNoon + 20s - 1ns;
    CHECK(end.all().empty());
    end.now += 1ns;
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].is_ping());
    CHECK(end.give_ack(0, said[0].message.id.value).has_value());
    (void)end.all();
    while (end.stream.next_deadline() < kNoon + 39s) CHECK(end.wait().empty());
    CHECK(end.stream.next_deadline() == kNoon + 40s);
}

TEST_CASE("silence in the middle of much data: one ping soon, then as ever", "[stream]") {
    Alone end({.keepalive = 20s});
    CHECK(end.give_block(1, 0, 1'024).has_value());
    end.stream.consume(1'024);
    (void)end.all();
    std::vector<Instant> pings;
    while (end.stream.next_deadline() < kNoon + 19s) {
        for (const auto& one : end.wait()) {
            if (!one.is_ping()) continue;
            pings.push_back(end.now);
            CHECK(end.give_ack(0, one.message.id.value).has_value());
        }
    }
    REQUIRE(pings.size() == 1);
    CHECK(pings.front() - kNoon < 600ms);
}

TEST_CASE("a short message and then silence: no ping but the keepalive", "[stream]") {
    Alone end({.keepalive = 20s});
    CHECK(end.give_block(1, 0, 100).has_value());
    end.stream.consume(100);
    (void)end.all();
    while (end.stream.next_deadline() < kNoon + 19s) {
        for (const auto& one : end.wait()) CHECK_FALSE(one.is_ping());
    }
}

TEST_CASE("a stream that is done says nothing more by itself, but answers", "[stream]") {
    Alone end;
    end.stream.finish();
    CHECK(end.all().size() == 1);
    CHECK(end.give_ack(1).has_value());
    CHECK(end.give_block(1, 0, 100, StreamEnd::eof).has_value());
    CHECK_FALSE(end.stream.done());
    end.stream.consume(100);
    CHECK(end.stream.done());
    (void)end.all();
    end.now += 1s;
    (void)end.all();
    CHECK_FALSE(end.stream.next_deadline().has_value());
    CHECK(end.give_block(2, 0, 100, StreamEnd::eof).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked[0].end == 101);
}

TEST_CASE("a stream that waits for nothing holds no chunk, and after a second no memory", "[stream]") {
    Alone end;
    CHECK(end.stream.statistics().memory == 0);
    end.write(100'000);
    for (std::uint64_t acked = 0; acked < 100'000;) {
        for (const auto& one : end.all())
            acked = std::max(acked, one.message.position + one.message.block.size());
        end.now += 10ms;
        CHECK(end.give_ack(acked).has_value());
    }
    for (std::uint32_t i = 0; i < 100; ++i) CHECK(end.give_block(i + 1, (i ^ 1) * 1'024, 1'024).has_value());
    CHECK(end.stream.statistics().memory > 64 * 1'024);
    while (!end.stream.readable().empty()) end.stream.consume(end.stream.readable().size());
    (void)end.all();
    CHECK(end.stream.statistics().memory > 0);
    CHECK(end.stream.statistics().memory < 64 * 1'024);
    end.now += 500ms;  // a ping, as much data has ceased
    for (const auto& one : end.all()) CHECK(end.give_ack(100'000, one.message.id.value).has_value());
    end.now += 1s;
    (void)end.all();
    CHECK(end.stream.statistics().memory == 0);
    // And goes on where it was.
    end.write(1'000);
    REQUIRE(end.all().size() == 1);
    CHECK(end.give_ack(101'000).has_value());
    CHECK(end.give_block(101, 100 * 1'024, 10).has_value());
    CHECK(end.stream.readable().size() == 10);
}

TEST_CASE("what the local side may write is bounded, and there is room again for a read of some size",
          "[stream]") {
    Alone end({.most_unsent = 200'000});
    end.limit = 10'000'000;
    CHECK(end.give_ack(0).has_value());
    end.write(1'000'000);
    CHECK(end.stream.sent() == 200'000);
    CHECK(end.stream.prepare().empty());
    std::uint64_t acked = 0;
    while (acked < 50'000) {
        for (const auto& one : end.all())
            acked = std::max(acked, one.message.position + one.message.block.size());
        CHECK(end.give_ack(std::min<std::uint64_t>(acked, 49'152)).has_value());
        if (acked < 50'000) {
            CHECK(end.stream.prepare().empty());
            end.now = std::max(end.now, *end.stream.next_deadline());
        }
    }
    CHECK(end.stream.prepare().empty());
    CHECK(end.give_ack(51'200).has_value());
    CHECK(end.stream.prepare().size() > 1'000);
}

TEST_CASE("time that stands still or goes back does no harm", "[stream]") {
    Alone end;
    end.write(100'000);
    CHECK(end.all().size() == 10);
    end.now = kNoon - 1h;
    CHECK(end.give_ack(1'024, 1).has_value());
    (void)end.all();
    end.now = kNoon;
    CHECK(end.give_ack(2'048, 2).has_value());
    (void)end.all();
    CHECK(end.stream.statistics().smoothed_rtt > 0ns);
    CHECK(end.stream.next_deadline() >= kNoon);
}

}  // namespace
}  // namespace curvegate::test
