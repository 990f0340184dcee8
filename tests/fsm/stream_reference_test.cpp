#include "support/reference_peer.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>

/// One of our streams and the reference's message layer over a simulated link: both directions come to their
/// end in spite of its mistakes, and it is not led to make more.
namespace curvegate::test {
namespace {

constexpr std::uint64_t kMiB = 1'024 * 1'024;

Way way(Duration round_trip, double loss) {
    Way out;
    out.rate = 12.5e6;
    out.buffer = 300'000;
    out.delay = round_trip / 2;
    out.loss = loss;
    return out;
}

std::uint64_t first_seed() {
    const char* seed = std::getenv("CURVEGATE_SEED");  // NOLINT(concurrency-mt-unsafe)
    return seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1;
}

struct Ends {
    OwnEnd own;
    ReferencePeer reference;
    Ends(std::uint64_t up, std::uint64_t down, bool pings = false)
        : own({}, up, 1, 2), reference(down, 2, 1, pings) {}

    void check() const {
        CHECK_FALSE(own.refused.has_value());
        CHECK(own.intact);
        CHECK(reference.intact);
        CHECK(reference.read == own.total);
        CHECK(own.read == reference.total);
        CHECK(own.stream.done());
        CHECK_FALSE(own.stream.peer_is_ours());
        CHECK(reference.absurd_round_trips == 0);
        CHECK(reference.named_twice == 0);
    }
};

TEST_CASE("both directions with the reference come to their end, in bounded time", "[stream][reference]") {
    const auto loss = GENERATE(0.0, 0.01, 0.05, 0.2);
    const auto round_trip = GENERATE(0, 20, 100);
    for (std::uint64_t seed = first_seed(); seed < first_seed() + 4; ++seed) {
        INFO("CURVEGATE_SEED=" << seed << " loss " << loss << " round trip " << round_trip << " ms");
        Ends ends(seed % 2 == 0 ? 0 : kMiB, seed % 3 == 0 ? 0 : kMiB, seed % 2 == 0);
        Link link(seed, way(std::chrono::milliseconds(round_trip), loss),
                  way(std::chrono::milliseconds(round_trip), loss));
        link.add(ends.own, ends.reference);
        CHECK(link.run(kEpoch + 10min));
        ends.check();
    }
}

TEST_CASE("the reference's queue does not overflow on a short path", "[stream][reference]") {
    Ends ends(16 * kMiB, 0);
    Way fast;
    fast.delay = 20us;
    Link link(1, fast, fast);
    link.add(ends.own, ends.reference);
    CHECK(link.run(kEpoch + 1min));
    ends.check();
    CHECK(ends.reference.overflows == 0);
    CHECK(ends.own.stream.statistics().lost == 0);
}

TEST_CASE("reordering and duplicates do not ruin the reference's round trips", "[stream][reference]") {
    for (std::uint64_t seed = first_seed(); seed < first_seed() + 20; ++seed) {
        INFO("CURVEGATE_SEED=" << seed);
        Ends ends(200'000, 200'000);
        auto bad = way(20ms, 0.1);
        bad.reordered = 0.05;
        bad.doubled = 0.05;
        bad.overtaken_is_lost = true;
        Link link(seed, bad, bad);
        link.add(ends.own, ends.reference);
        CHECK(link.run(kEpoch + 30min));
        ends.check();
    }
}

// With a program that does not read it acknowledges nothing, in neither direction (PROTOCOL 9.7).
TEST_CASE("the reference's program may stop reading for minutes", "[stream][reference]") {
    const auto both = GENERATE(false, true);
    Ends ends(kMiB, both ? kMiB : 0);
    Link link(1, way(20ms, 0), way(20ms, 0));
    link.add(ends.own, ends.reference);
    ends.reference.reads = false;
    CHECK_FALSE(link.run(kEpoch + 1min));
    const auto said = ends.own.messages;
    const auto heard = ends.reference.transmissions;
    CHECK_FALSE(link.run(kEpoch + 10min));
    const auto silent = ends.own.stream.silent_since();
    REQUIRE(silent.has_value());
    if (!both) CHECK(*silent < kEpoch + 5s);  // else it goes on sending what it has
    CHECK(ends.reference.read == 0);
    // One probe every 10 s, and an acknowledgment for each message.
    CHECK(ends.own.messages - said <= 60 + ends.reference.transmissions - heard);
    ends.reference.reads = true;
    CHECK(link.run(kEpoch + 12min));
    ends.check();
}

// Its program does not read while its answers wait, and they wait for acknowledgments that it does not look
// at while its program does not read.
TEST_CASE("the reference is not led to lock itself up by a program that answers as it reads",
          "[stream][reference]") {
    const auto loss = GENERATE(0.0, 0.02);
    const auto round_trip = GENERATE(0, 20);
    INFO("loss " << loss << " round trip " << round_trip << " ms");
    OwnEnd own({}, 4 * kMiB, 1, 1);
    ReferencePeer reference(~std::uint64_t{0}, 1, 1);
    reference.echoes = true;
    Link link(1, way(std::chrono::milliseconds(round_trip), loss),
              way(std::chrono::milliseconds(round_trip), loss));
    link.add(own, reference);
    CHECK(link.run(kEpoch + 10min));
    CHECK(own.read == 4 * kMiB);
    CHECK(own.intact);
    CHECK(own.stream.done());
}

TEST_CASE("a greeting of the reference does not hold what follows for long", "[stream][reference]") {
    Ends ends(16 * kMiB, 100);
    Link link(1, way(1ms, 0), way(1ms, 0));
    link.add(ends.own, ends.reference);
    CHECK(link.run(kEpoch + 5s));
    ends.check();
}

TEST_CASE("our program may stop reading for minutes", "[stream][reference]") {
    Ends ends(1'000, 8 * kMiB);
    Link link(1, way(20ms, 0), way(20ms, 0));
    link.add(ends.own, ends.reference);
    ends.own.reads = false;
    CHECK_FALSE(link.run(kEpoch + 5min));
    CHECK(ends.own.stream.received() == kMiB / 4);  // what is kept for a local side that does not read
    CHECK(ends.own.stream.outgoing_done());
    ends.own.reads = true;
    CHECK(link.run(kEpoch + 15min));
    ends.check();
}

TEST_CASE("our end comes again until the reference has it", "[stream][reference]") {
    const auto size = GENERATE(as<std::uint64_t>{}, 0, 1'000);
    Ends ends(size, 1'000);
    Link link(1, way(20ms, 0), way(20ms, 0));
    std::size_t lost = 0;
    link.filter = [&](std::size_t, Bytes message) {
        const auto parsed = wire::curvecp::parse_message(message);
        return parsed->end == wire::curvecp::StreamEnd::none || ++lost > 5;
    };
    link.add(ends.own, ends.reference);
    CHECK(link.run(kEpoch + 2min));
    CHECK(lost > 5);
    ends.check();
}

// Its mistake 1: an empty end counts as done when all before it is, and is never sent again.
TEST_CASE("an end that the reference does not repeat keeps nothing else from its end",
          "[stream][reference]") {
    Ends ends(100'000, 1'000);
    ends.reference.end_in_last_block = false;
    Link link(1, way(20ms, 0), way(20ms, 0));
    bool lost = false;
    link.filter = [&](std::size_t side, Bytes message) {
        const auto parsed = wire::curvecp::parse_message(message);
        const bool end = side == 1 && parsed->end != wire::curvecp::StreamEnd::none;
        lost = lost || end;
        return !end;
    };
    link.add(ends.own, ends.reference);
    CHECK_FALSE(link.run(kEpoch + 10min));
    CHECK(lost);
    CHECK(ends.own.stream.outgoing_done());
    CHECK(ends.own.read == 1'000);
    CHECK(ends.own.stream.incoming() == stream::Incoming::open);
    // It still answers keepalives: that its end is missing, the user of the stream must find out.
    CHECK(ends.own.stream.silent_since() == std::nullopt);
}

// Its mistake 2: a ping is done only when a byte of its stream is, and comes again until then.
TEST_CASE("pings of the reference are answered each, and are nothing else", "[stream][reference]") {
    Ends ends(1'000, 0, true);
    ends.own.finishes = false;
    Link link(1, way(20ms, 0), way(20ms, 0));
    std::set<std::uint32_t> pings;
    std::set<std::uint32_t> named;
    link.filter = [&](std::size_t side, Bytes message) {
        const auto parsed = wire::curvecp::parse_message(message);
        if (side == 1 && parsed->id.value != 0) pings.insert(parsed->id.value);
        if (side == 0 && parsed->acked_id.value != 0) named.insert(parsed->acked_id.value);
        return true;
    };
    link.add(ends.own, ends.reference);
    CHECK_FALSE(link.run(kEpoch + 5s));
    CHECK_FALSE(pings.empty());
    CHECK(named == pings);
    CHECK(ends.own.stream.received() == 0);
    ends.own.finishes = true;
    CHECK(link.run(kEpoch + 1min));
    ends.check();
}

}  // namespace
}  // namespace curvegate::test
