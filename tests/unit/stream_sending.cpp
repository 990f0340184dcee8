#include "stream/chunks.hpp"
#include "support/stream_messages.hpp"

#include <catch2/catch.hpp>

/// What a stream sends: blocks, retransmissions, probes, its end (PROTOCOL 9).
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTrip = 2ms;  // so short that a window goes out in one train

/// An end that knows its round trip and a peer of its own kind.
Alone acquainted(stream::Options options = {}) {
    Alone end(options);
    end.stream.want_ping();
    const auto said = end.all();
    CHECK(said.size() == 1);
    end.now += kTrip;
    CHECK(end.give_ack(0, said[0].message.id.value).has_value());
    CHECK(end.all().empty());
    CHECK(end.stream.statistics().smoothed_rtt == kTrip);
    return end;
}
std::uint32_t id(const Said& said) {
    return said.message.id.value;
}

TEST_CASE("what is written goes out in blocks of 1024 bytes in messages of equal size", "[stream]") {
    Alone end;
    end.write(5'000);
    const auto said = end.all();
    REQUIRE(said.size() == 5);
    for (std::size_t i = 0; i < 5; ++i) {
        CHECK(said[i].message.id.value == i + 1);
        CHECK(said[i].message.position == i * 1'024);
        CHECK(said[i].message.block.size() == (i < 4 ? 1'024 : 904));
        CHECK(said[i].bytes.size() == (i < 4 ? 1'088 : 976));
        CHECK(said[i].message.end == StreamEnd::none);
        CHECK(said[i].message.extension.has_value());
        CHECK(said[i].message.acked_id.value == 0);
    }
    CHECK(end.stream.sent() == 5'000);
    CHECK(end.stream.has_sent_bytes());
}

TEST_CASE("blocks are of at most 512 bytes where that is the limit", "[stream]") {
    Alone end;
    end.stream.limit_blocks(512);
    end.write(2'000);
    const auto first = end.next(640);
    REQUIRE(first.has_value());
    CHECK(first->message.block.size() == 512);
    CHECK(first->bytes.size() == 576);
    end.stream.limit_blocks(1'024);
    CHECK(end.next()->message.block.size() == 1'024);
}

TEST_CASE("a block fits the packet whatever is asked for", "[stream]") {
    Alone end;
    end.write(2'000);
    const auto first = end.next(640);
    REQUIRE(first.has_value());
    CHECK(first->bytes.size() == 640);
    CHECK(first->message.block.size() == 576);
}

TEST_CASE("ids count transmissions and skip 0", "[stream]") {
    Alone end({.first_id = 0xfffffffe});
    end.write(4 * 1'024);
    const auto said = end.all();
    REQUIRE(said.size() == 4);
    CHECK(id(said[0]) == 0xfffffffe);
    CHECK(id(said[1]) == 0xffffffff);
    CHECK(id(said[2]) == 1);
    CHECK(id(said[3]) == 2);
    end.now += 50ms;
    CHECK(end.give_ack(2'048, 0xffffffff).has_value());
    CHECK(end.stream.statistics().in_flight == 2 * 1'088);
    CHECK(end.stream.statistics().smoothed_rtt == 50ms);
    CHECK(end.give_ack(4'096, 2).has_value());
    CHECK(end.stream.statistics().in_flight == 0);
}

// ---- the end ----

TEST_CASE("the end rides on the last block if it is known by then", "[stream]") {
    Alone end;
    end.write(1'500);
    end.stream.finish();
    CHECK(end.stream.prepare().empty());
    const auto said = end.all();
    REQUIRE(said.size() == 2);
    CHECK(said[0].message.end == StreamEnd::none);
    CHECK(said[1].message.end == StreamEnd::eof);
    CHECK(said[1].message.block.size() == 476);
    // Acknowledged only by one more than the length.
    CHECK(end.give_ack(1'500, id(said[1])).has_value());
    CHECK_FALSE(end.stream.outgoing_done());
    const auto again = end.wait();
    REQUIRE_FALSE(again.empty());
    CHECK(end.give_ack(1'501).has_value());
    CHECK(end.stream.outgoing_done());
}

TEST_CASE("an end that is known later goes alone, and comes again until one more byte is acknowledged",
          "[stream]") {
    Alone end;
    end.write(1'000);
    CHECK(end.all().size() == 1);
    end.now += 20ms;
    CHECK(end.give_ack(1'000, 1).has_value());
    end.stream.finish();
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.end == StreamEnd::eof);
    CHECK(said[0].message.position == 1'000);
    CHECK(said[0].message.block.empty());
    // What the reference's own sender would take for its end (PROTOCOL 9.7).
    for (int i = 0; i < 5; ++i) {
        CHECK(end.give_ack(1'000).has_value());
        CHECK_FALSE(end.stream.outgoing_done());
        const auto again = end.wait();
        REQUIRE(again.size() >= 1);
        CHECK(again[0].message.end == StreamEnd::eof);
        CHECK(again[0].message.position == 1'000);
    }
    CHECK(end.give_ack(1'001).has_value());
    CHECK(end.stream.outgoing_done());
    CHECK_FALSE(end.stream.done());  // the peer's direction is open
    CHECK(end.give_block(1, 0, 0, StreamEnd::eof).has_value());
    CHECK(end.stream.done());
}

TEST_CASE("an end in a range of its own is not done by it", "[stream]") {
    auto end = acquainted();
    end.write(2'048);
    end.stream.finish();
    const auto said = end.all();
    REQUIRE(said.size() == 2);
    const bool named = GENERATE(true, false);
    CHECK(end.give_ack(0, named ? id(said[1]) : 0, {{1'024, 2'048}}).has_value());
    CHECK(end.stream.statistics().in_flight == 1'088);  // it has arrived, though
    CHECK(end.give_ack(2'048, 0).has_value());
    CHECK_FALSE(end.stream.outgoing_done());
    CHECK(end.give_ack(2'049, 0).has_value());
    CHECK(end.stream.outgoing_done());
}

TEST_CASE("an empty stream ends at position 0", "[stream]") {
    Alone end;
    CHECK_FALSE(end.stream.has_sent_bytes());
    end.stream.finish();
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.end == StreamEnd::eof);
    CHECK(said[0].message.position == 0);
    CHECK(end.stream.has_sent_bytes());
    CHECK(end.give_ack(1).has_value());
    CHECK(end.stream.outgoing_done());
}

TEST_CASE("abort drops what was not sent and ends as a failure behind what was", "[stream]") {
    Alone end;
    end.write(100 * 1'024);
    const auto sent = end.all().size() * 1'024;
    CHECK(sent == 10 * 1'024);
    end.stream.abort();
    CHECK(end.stream.prepare().empty());
    CHECK(end.stream.sent() == sent);
    CHECK(end.give_ack(sent).has_value());
    const auto said = end.wait();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.end == StreamEnd::failure);
    CHECK(said[0].message.position == sent);
    CHECK_FALSE(end.stream.outgoing_done());
    CHECK(end.give_ack(sent + 1).has_value());
    CHECK(end.stream.outgoing_done());
}

TEST_CASE("abort gives back at once the memory of what was not sent, and the rest when it is acknowledged",
          "[stream]") {
    constexpr std::size_t kChunk = stream::ChunkSource::kChunk;
    Alone end;
    end.write(250'000);
    const auto sent = end.all().size() * 1'024;
    REQUIRE(sent < kChunk);
    CHECK(end.stream.owes_bytes());
    CHECK(end.stream.statistics().memory > 3 * kChunk);
    const bool acknowledged = GENERATE(true, false);
    if (acknowledged) {
        CHECK(end.give_ack(sent).has_value());
        end.stream.abort();
        CHECK(end.stream.statistics().memory < kChunk);
    } else {
        end.stream.abort();
        CHECK(end.stream.statistics().memory > kChunk);
        CHECK(end.stream.statistics().memory < 2 * kChunk);
        CHECK(end.give_ack(sent).has_value());
        CHECK(end.stream.statistics().memory < kChunk);
    }
    CHECK_FALSE(end.stream.owes_bytes());
    const auto said = end.wait();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.end == StreamEnd::failure);
    CHECK(said[0].message.position == sent);
}

TEST_CASE("what was sent before an abort is still sent again, whole", "[stream]") {
    Alone end;
    end.write(250'000);
    const auto sent = end.all().size() * 1'024;
    end.stream.abort();
    CHECK_FALSE(end.stream.owes_bytes());
    std::uint64_t acked = 0;
    while (acked < sent) {
        for (const auto& one : end.wait()) {
            CHECK(std::ranges::count(one.message.block, Byte{7}) == std::ssize(one.message.block));
            if (one.message.position == acked) acked += one.message.block.size();
        }
        CHECK(end.give_ack(acked).has_value());
    }
    CHECK(acked == sent);
}

TEST_CASE("a byte is owed until it is acknowledged, an end is none", "[stream]") {
    Alone end;
    CHECK_FALSE(end.stream.owes_bytes());
    end.write(100);
    CHECK(end.stream.owes_bytes());
    (void)end.all();
    end.stream.finish();
    CHECK(end.stream.owes_bytes());
    (void)end.wait();
    CHECK(end.give_ack(100).has_value());
    CHECK_FALSE(end.stream.owes_bytes());
    CHECK_FALSE(end.stream.outgoing_done());
}

TEST_CASE("room that was prepared stays good until it is committed, whatever comes in between", "[stream]") {
    const bool aborted = GENERATE(false, true);
    Alone end;
    end.write(1'000);
    const auto room = end.stream.prepare();
    CHECK(end.all().size() == 1);
    CHECK(end.give_ack(1'000).has_value());  // everything is acknowledged
    if (aborted) end.stream.abort();
    end.now += 2s;
    (void)end.all();
    if (aborted) CHECK(end.give_ack(1'001).has_value());
    end.now += 2s;
    (void)end.all();
    std::ranges::fill(room, Byte{1});
    end.stream.commit(500);
    const auto said = end.all();
    CHECK(said.size() == (aborted ? 0 : 1));
    for (const auto& one : said) CHECK(std::ranges::count(one.message.block, 1) == 500);
    CHECK(end.stream.sent() == (aborted ? 1'000 : 1'500));
}

// ---- what is lost ----

TEST_CASE("a block is lost when three later messages arrived", "[stream]") {
    auto end = acquainted();
    end.write(6 * 1'024);
    const auto said = end.all();
    REQUIRE(said.size() == 6);
    end.now += kTrip;
    CHECK(end.give_ack(0, id(said[1]), {{1'024, 2'048}}).has_value());
    CHECK(end.give_ack(0, id(said[2]), {{1'024, 3'072}}).has_value());
    CHECK(end.all().empty());
    CHECK(end.give_ack(0, id(said[3]), {{1'024, 4'096}}).has_value());
    const auto again = end.all();
    REQUIRE(again.size() == 1);
    CHECK(again[0].message.position == 0);
    CHECK(id(again[0]) == id(said[5]) + 1);
    CHECK(again[0].message.block.size() == 1'024);
    CHECK(end.stream.statistics().lost == 1);
    CHECK(end.stream.statistics().window < 10 * 1'088);
}

TEST_CASE("a block is lost an eighth of a round trip after a later message arrived", "[stream]") {
    auto end = acquainted();
    end.write(2 * 1'024);
    const auto said = end.all();
    REQUIRE(said.size() == 2);
    end.now += kTrip;
    CHECK(end.give_ack(0, id(said[1]), {{1'024, 2'048}}).has_value());
    CHECK(end.all().empty());
    CHECK(end.stream.next_deadline() == end.now + kTrip / 8);
    const auto again = end.wait();
    REQUIRE(again.size() == 1);
    CHECK(again[0].message.position == 0);
}

TEST_CASE("a block whose message was named is not lost, though no range covers it", "[stream]") {
    auto end = acquainted();
    end.write(6 * 1'024);
    const auto said = end.all();
    REQUIRE(said.size() == 6);
    end.now += kTrip;
    for (std::size_t i = 1; i < 6; ++i) CHECK(end.give_ack(0, id(said[i])).has_value());
    const auto again = end.all();
    REQUIRE(again.size() == 1);
    CHECK(again[0].message.position == 0);
    CHECK(end.stream.statistics().in_flight == 1'088);
    CHECK(end.stream.sent() == 6 * 1'024);
    // It is kept, and only a range makes it done: on a timeout it goes out again.
    CHECK(end.give_ack(1'024, id(again[0])).has_value());
    CHECK(end.stream.statistics().in_flight == 0);
    const auto probes = end.wait();
    REQUIRE(probes.size() == 2);
    CHECK(probes[0].message.position == 1'024);
    CHECK(probes[1].message.position == 2'048);
    CHECK(end.give_ack(6'144).has_value());
    CHECK(end.stream.statistics().in_flight == 0);
    CHECK(end.stream.silent_since() == std::nullopt);
}

TEST_CASE("a block that arrived is never sent again, nor is it lost", "[stream]") {
    auto end = acquainted();
    end.write(8 * 1'024);
    const auto said = end.all();
    REQUIRE(said.size() == 8);
    end.now += kTrip;
    CHECK(end.give_ack(0, 0, {{1'024, 3'072}, {4'096, 8'192}}).has_value());
    std::vector<std::uint64_t> again;
    for (int i = 0; i < 2; ++i)
        for (const auto& one : end.wait()) again.push_back(one.message.position);
    CHECK(std::ranges::count(again, 0U) >= 1);
    for (const auto position : again) CHECK((position == 0 || position == 3'072));
}

TEST_CASE("a block half in a range is not done", "[stream]") {
    auto end = acquainted();
    end.write(3 * 1'024);
    REQUIRE(end.all().size() == 3);
    CHECK(end.give_ack(512, 0, {{513, 2'047}}).has_value());
    CHECK(end.stream.statistics().in_flight == 3 * 1'088);
    CHECK(end.give_ack(1'536, 0, {{1'536, 3'072}}).has_value());  // two ranges are not one
    CHECK(end.stream.statistics().in_flight == 1'088);
}

TEST_CASE("a round trip is taken from a named id alone, and once", "[stream]") {
    auto end = acquainted();
    end.write(3 * 1'024);
    const auto said = end.all();
    end.now += 500ms;
    CHECK(end.give_ack(1'024).has_value());
    CHECK(end.stream.statistics().smoothed_rtt == kTrip);
    CHECK(end.give_ack(1'024, 99'999).has_value());  // never sent
    CHECK(end.stream.statistics().smoothed_rtt == kTrip);
    CHECK(end.give_ack(1'024, id(said[1])).has_value());
    CHECK(end.stream.statistics().smoothed_rtt == (7 * kTrip + 500ms) / 8);
    CHECK(end.give_ack(1'024, id(said[1])).has_value());
    CHECK(end.stream.statistics().smoothed_rtt == (7 * kTrip + 500ms) / 8);
}

// ---- errors ----

TEST_CASE("an acknowledgment of what was never sent is an error and changes nothing", "[stream]") {
    auto end = acquainted();
    end.write(2'000);
    REQUIRE(end.all().size() == 2);
    const auto refuse = [&](std::uint64_t first, std::vector<Range> more) {
        Message message;
        message.id = {7};
        message.acked[0].end = first;
        std::ranges::copy(more, message.acked.begin() + 1);
        const auto block = pattern(10);
        message.block = block;
        const auto result = end.give(message);
        REQUIRE_FALSE(result.has_value());
        CHECK(result.error().is(stream::Errc::ack_of_unsent));
        CHECK(end.stream.received() == 0);
        CHECK(end.stream.statistics().in_flight > 0);
    };
    refuse(2'001, {});  // no end was sent
    refuse(1'024, {{1'024, 2'001}});
    refuse(0, {{1'024, 2'000}, {2'000, 2'001}});
    refuse((std::uint64_t{1} << 60) - 1, {});
    end.stream.finish();
    REQUIRE(end.all().size() == 1);
    refuse(2'002, {});
    CHECK(end.give_ack(2'001).has_value());
    CHECK(end.stream.outgoing_done());
}

TEST_CASE("what is no message is an error of wire", "[stream]") {
    Alone end;
    CHECK(end.receive(Buffer(47)).error().is(wire::Errc::wrong_length));
    CHECK(end.receive(Buffer(32)).error().is(wire::Errc::wrong_length));
    Buffer far(64);
    store_le<std::uint64_t>(MutableBytes(far).subspan<8, 8>(), ~std::uint64_t{0});
    CHECK(end.receive(far).error().is(wire::Errc::wrong_range));
    CHECK_FALSE(end.stream.silent_since().has_value());
}

}  // namespace
}  // namespace curvegate::test
