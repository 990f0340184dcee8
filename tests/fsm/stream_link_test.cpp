#include "support/stream_link.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstdlib>

/// Two of our own streams over a simulated link under virtual time: whatever the link does, every byte
/// arrives, once and in order, at a rate that the link allows.
namespace curvegate::test {
namespace {

constexpr std::uint64_t kMiB = 1'024 * 1'024;

bool is_short() {
    const char* wish = std::getenv("CURVEGATE_E2E");  // NOLINT(concurrency-mt-unsafe)
    if (wish != nullptr && std::string_view(wish) == "short") return true;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
    return false;
#endif
}
std::uint64_t amount(std::uint64_t bytes) {
    return is_short() ? bytes / 16 : bytes;
}

std::uint64_t first_seed() {
    const char* seed = std::getenv("CURVEGATE_SEED");  // NOLINT(concurrency-mt-unsafe)
    return seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1;
}

double seconds(Duration time) {
    return std::chrono::duration<double>(time).count();
}

/// 100 Mbit/s with 300 kB of buffer.
Way way(Duration round_trip, double loss) {
    Way out;
    out.rate = 12.5e6;
    out.buffer = 300'000;
    out.delay = round_trip / 2;
    out.loss = loss;
    return out;
}

/// Both ends of one stream.
struct Ends {
    OwnEnd client;
    OwnEnd server;
    Ends(std::uint64_t up, std::uint64_t down, const stream::Options& options = {}, std::uint64_t seed = 1)
        : client(options, up, seed, seed + 1), server(options, down, seed + 1, seed) {}

    void check() const {
        CHECK_FALSE(client.refused.has_value());
        CHECK_FALSE(server.refused.has_value());
        CHECK(client.intact);
        CHECK(server.intact);
        CHECK(server.read == client.total);
        CHECK(client.read == server.total);
        CHECK(client.stream.done());
        CHECK(server.stream.done());
        CHECK(client.stream.incoming() == stream::Incoming::ended);
        CHECK(server.stream.incoming() == stream::Incoming::ended);
        CHECK(client.stream.statistics().in_flight == 0);
    }
};

TEST_CASE("64 MiB arrive exactly, with and without loss, over short and long paths", "[stream][link]") {
    const auto loss = GENERATE(0.0, 0.01, 0.05);
    const auto round_trip = GENERATE(0, 20, 100);
    const auto seed = first_seed();
    INFO("CURVEGATE_SEED=" << seed << " loss " << loss << " round trip " << round_trip << " ms");
    Ends ends(amount(64 * kMiB), 0, {}, seed);
    Link link(seed, way(std::chrono::milliseconds(round_trip), loss),
              way(std::chrono::milliseconds(round_trip), loss));
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 1h));
    ends.check();
    const double rate = static_cast<double>(ends.client.total) / seconds(link.now - kEpoch);
    INFO(rate / 1e6 << " MB/s");
    if (loss == 0 && round_trip <= 20 && !is_short()) CHECK(rate > 11e6);  // of 11.76 without headers
    if (loss == 0) CHECK(ends.client.stream.statistics().timeouts == 0);
    // What was sent again was lost: no more than one in twenty was sent in vain.
    const auto stats = ends.client.stream.statistics();
    CHECK(static_cast<double>(stats.lost) <= static_cast<double>(link.way(0).dropped) * 1.05 + 10);
}

// RFC 9438 5.2 and 4.3: the average window at loss p and round trip T is the larger of what CUBIC's own curve
// and what Reno would have.
TEST_CASE("with loss the rate is the one that CUBIC promises", "[stream][link]") {
    const auto seed = first_seed() + GENERATE(0U, 1U, 2U);
    INFO("CURVEGATE_SEED=" << seed);
    const double p = 0.01;
    const double t = 0.1;
    const double cubic = std::pow(0.4 * 3.7 / (4 * 0.3), 0.25) * std::pow(t / p, 0.75);
    const double reno = std::sqrt(3 / (2 * p));
    CHECK(reno > cubic);  // here the Reno-friendly region counts: 12.2 segments, not 5.9
    Ends ends(amount(64 * kMiB), 0, {}, seed);
    Link link(seed, way(100ms, p), way(100ms, 0));
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 2h));
    ends.check();
    const double rate = static_cast<double>(ends.client.total) / seconds(link.now - kEpoch);
    const double promised = std::max(cubic, reno) * 1'024 / t;
    INFO(rate << " of " << promised << " bytes/s");
    CHECK(rate > 0.8 * promised);
    CHECK(rate < 2 * promised);
}

TEST_CASE("two streams share a bottleneck", "[stream][link]") {
    const auto seed = first_seed() + GENERATE(0U, 1U, 2U);
    INFO("CURVEGATE_SEED=" << seed);
    Ends first(64 * kMiB, 0, {}, seed);
    Ends second(64 * kMiB, 0, {}, seed + 10);
    auto up = way(20ms, 0);
    up.buffer = 250'000;  // one bandwidth-delay product
    Link link(seed, up, way(20ms, 0));
    link.add(first.client, first.server);
    CHECK_FALSE(link.run(kEpoch + 500ms));  // the second comes later
    link.add(second.client, second.server);
    CHECK_FALSE(link.run(kEpoch + 2s));
    const auto before_first = first.server.read;
    const auto before_second = second.server.read;
    CHECK_FALSE(link.run(kEpoch + 10s));
    const auto a = static_cast<double>(first.server.read - before_first);
    const auto b = static_cast<double>(second.server.read - before_second);
    INFO(a / (a + b));
    CHECK(a / (a + b) > 0.4);
    CHECK(a / (a + b) < 0.6);
    CHECK(a + b > 0.85 * 8 * 12.5e6 * 1'024 / 1'088);
}

TEST_CASE("nothing that a link does to messages keeps the streams from their end", "[stream][link]") {
    for (std::uint64_t seed = first_seed(); seed < first_seed() + 20; ++seed) {
        INFO("CURVEGATE_SEED=" << seed);
        Ends ends(seed * 10'007 % 400'000, seed * 20'011 % 400'000, {}, seed);
        auto bad = way(std::chrono::milliseconds(seed * 7 % 100), 0.3);
        bad.reordered = 0.1;
        bad.doubled = 0.05;
        bad.outage_begin = kEpoch + std::chrono::milliseconds(seed * 131 % 1'000);
        bad.outage_end = bad.outage_begin + 2s;
        Link link(seed, bad, bad);
        link.add(ends.client, ends.server);
        CHECK(link.run(kEpoch + 30min));
        ends.check();
    }
}

TEST_CASE("an outage in the middle is survived", "[stream][link]") {
    const auto length = GENERATE(as<Duration>{}, 2s, 59s);
    Ends ends(16 * kMiB, 0);
    auto up = way(20ms, 0);
    up.outage_begin = kEpoch + 500ms;
    up.outage_end = up.outage_begin + length;
    Link link(1, up, up);
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 5min));
    ends.check();
    // The longest wait between two probes is 10 s.
    CHECK(link.now < up.outage_end + 13s);
}

TEST_CASE("both directions run at once", "[stream][link]") {
    const auto loss = GENERATE(0.0, 0.02);
    Ends ends(amount(16 * kMiB), amount(16 * kMiB));
    Link link(1, way(20ms, loss), way(20ms, loss));
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 10min));
    ends.check();
    if (loss == 0)
        CHECK(seconds(link.now - kEpoch) < 1 + 1.3 * static_cast<double>(ends.client.total) / 11.7e6);
}

TEST_CASE("one direction ends long before the other", "[stream][link]") {
    Ends ends(1'000, 4 * kMiB);
    ends.server.finishes = false;
    Link link(1, way(20ms, 0), way(20ms, 0));
    link.add(ends.client, ends.server);
    CHECK_FALSE(link.run(kEpoch + 5min));
    CHECK(ends.server.stream.incoming() == stream::Incoming::ended);
    CHECK(ends.client.stream.outgoing_done());
    CHECK(ends.client.stream.incoming() == stream::Incoming::open);
    CHECK(ends.client.read == 4 * kMiB);
    ends.server.finishes = true;
    CHECK(link.run(link.now + 1min));
    ends.check();
}

TEST_CASE("an end of stream that is lost comes again", "[stream][link]") {
    const auto size = GENERATE(as<std::uint64_t>{}, 0, 1, 100'000);
    Ends ends(size, size);
    Link link(1, way(20ms, 0), way(20ms, 0));
    std::size_t lost = 0;
    link.filter = [&](std::size_t, Bytes message) {
        const bool end = wire::curvecp::parse_message(message)->end != wire::curvecp::StreamEnd::none;
        return !end || ++lost > 6;
    };
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 2min));
    CHECK(lost > 6);
    ends.check();
}

TEST_CASE("an aborted direction ends as a failure, with all that was sent before", "[stream][link]") {
    Ends ends(16 * kMiB, 1'000);
    Link link(1, way(20ms, 0.01), way(20ms, 0.01));
    link.add(ends.client, ends.server);
    CHECK_FALSE(link.run(kEpoch + 500ms));
    ends.client.total = 0;  // it writes no more
    ends.client.finishes = false;
    ends.client.stream.abort();
    CHECK(link.run(kEpoch + 5min));
    CHECK(ends.server.stream.incoming() == stream::Incoming::failed);
    CHECK(ends.server.intact);
    CHECK(ends.server.read == ends.client.stream.sent());
    CHECK(ends.server.read > 0);
    CHECK(ends.client.stream.outgoing_done());
    CHECK(ends.client.stream.incoming() == stream::Incoming::ended);
}

TEST_CASE("a reader that stops for minutes stops the sender and nothing else", "[stream][link]") {
    const auto loss = GENERATE(0.0, 0.2);
    Ends ends(amount(16 * kMiB), 1'000'000);
    Link link(3, way(20ms, loss), way(20ms, loss));
    link.add(ends.client, ends.server);
    ends.server.reads = false;
    CHECK_FALSE(link.run(kEpoch + 1min));
    const auto before = ends.client.messages;
    CHECK_FALSE(link.run(kEpoch + 10min));
    CHECK(ends.client.read == 1'000'000);
    CHECK(ends.server.stream.received() >= 200'000);
    CHECK(ends.server.stream.received() <= 256 * 1'024);
    CHECK(ends.client.messages - before < 400);  // probes with back-off, and keepalives
    CHECK(ends.client.stream.silent_since().value_or(link.now) > link.now - 2min);
    ends.server.reads = true;
    CHECK(link.run(kEpoch + 30min));
    ends.check();
}

TEST_CASE("an update of the limit that is lost is found out", "[stream][link]") {
    stream::Options options;
    options.keepalive = 1h;
    Ends ends(2 * kMiB, 0, options);
    Link link(1, way(20ms, 0), way(20ms, 0));
    link.add(ends.client, ends.server);
    ends.server.reads = false;
    CHECK_FALSE(link.run(kEpoch + 10s));
    std::size_t dropped = 0;
    link.filter = [&](std::size_t side, Bytes) { return side == 0 || ++dropped > 3; };
    ends.server.reads = true;
    CHECK(link.run(kEpoch + 40s));
    CHECK(dropped > 3);
    ends.check();
}

TEST_CASE("the window grows for a fast reader until the path is full", "[stream][link]") {
    Ends ends(64 * kMiB, 0);
    auto fast = way(100ms, 0);
    fast.rate = 30e6;
    fast.buffer = 6'000'000;
    Link link(1, fast, fast);
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 1min));
    ends.check();
    // 256 KiB in 100 ms would be 2.6 MB/s.
    CHECK(static_cast<double>(64 * kMiB) / seconds(link.now - kEpoch) > 15e6);
}

TEST_CASE("an idle stream says something every keepalive, and both ends hear it", "[stream][link]") {
    stream::Options options;
    options.keepalive = 20s;
    Ends ends(1'000, 1'000, options);
    ends.client.finishes = ends.server.finishes = false;
    Link link(1, way(20ms, 0), way(20ms, 0));
    link.add(ends.client, ends.server);
    CHECK_FALSE(link.run(kEpoch + 5s));
    const auto before = ends.client.messages + ends.server.messages;
    CHECK_FALSE(link.run(kEpoch + 205s));
    const auto said = ends.client.messages + ends.server.messages - before;
    CHECK(said >= 20);
    CHECK(said <= 45);
    CHECK_FALSE(ends.client.stream.silent_since().has_value());
    CHECK(ends.client.stream.statistics().memory < 2'048);
    link.filter = [](std::size_t side, Bytes) { return side == 0; };  // the server falls silent
    CHECK_FALSE(link.run(kEpoch + 300s));
    REQUIRE(ends.client.stream.silent_since().has_value());
    CHECK(*ends.client.stream.silent_since() < kEpoch + 246s);
}

TEST_CASE("ids wrap round without a hitch", "[stream][link]") {
    stream::Options options;
    options.first_id = ~std::uint32_t{0} - 500;
    Ends ends(4 * kMiB, 1 * kMiB, options);
    Link link(1, way(20ms, 0.02), way(20ms, 0.02));
    bool zero = false;
    link.filter = [&](std::size_t, Bytes message) {
        const auto parsed = wire::curvecp::parse_message(message);
        zero = zero || (parsed->id.value == 0 && !parsed->block.empty());
        return true;
    };
    link.add(ends.client, ends.server);
    CHECK(link.run(kEpoch + 5min));
    CHECK_FALSE(zero);
    ends.check();
    const auto stats = ends.client.stream.statistics();
    CHECK(static_cast<double>(stats.lost) <= static_cast<double>(link.way(0).dropped) * 1.1 + 10);
}

TEST_CASE("blocks of 512 bytes in small packets, then of 1024", "[stream][link]") {
    Ends ends(1 * kMiB, 0);
    ends.client.stream.limit_blocks(512);
    ends.client.most_packet = 640;
    Link link(1, way(20ms, 0.05), way(20ms, 0.05));
    std::size_t largest = 0;
    link.filter = [&](std::size_t side, Bytes message) {
        largest = std::max(largest, side == 0 ? message.size() : 0);
        return true;
    };
    link.add(ends.client, ends.server);
    CHECK_FALSE(link.run(kEpoch + 30ms));
    CHECK(largest == 576);
    ends.client.stream.limit_blocks(1'024);
    ends.client.most_packet = 1'088;
    CHECK(link.run(kEpoch + 5min));
    CHECK(largest == 1'088);
    ends.check();
}

TEST_CASE("on another path round trip and window start afresh", "[stream][link]") {
    Ends ends(32 * kMiB, 0);
    Link link(1, way(10ms, 0), way(10ms, 0));
    link.add(ends.client, ends.server);
    CHECK_FALSE(link.run(kEpoch + 1s));
    CHECK(ends.client.stream.statistics().window > 100'000);
    // What is on the way is lost with the old path, and the new one is ten times longer.
    link.way(0) = link.way(1) = way(100ms, 0);
    link.way(0).outage_begin = link.now;
    link.way(0).outage_end = link.now + 10ms;
    ends.client.stream.path_changed(link.now);
    ends.server.stream.path_changed(link.now);
    CHECK(ends.client.stream.statistics().window < 12'000);
    CHECK(link.run(kEpoch + 1min));
    ends.check();
}

}  // namespace
}  // namespace curvegate::test
