#include "stream/chunks.hpp"
#include "stream/echo_guard.hpp"
#include "support/stream_messages.hpp"

#include <catch2/catch.hpp>

/// What a stream takes in and gives on, and the parts that hold it.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;
using stream::Chunks;
using stream::EchoGuard;
using stream::Incoming;
using stream::Ring;

Result<> give(Alone& end, std::uint32_t id, std::uint64_t position, Bytes block,
              StreamEnd how = StreamEnd::none) {
    Message message;
    message.id = {id};
    message.position = position;
    message.block = block;
    message.end = how;
    return end.give(message);
}
Buffer take_all(Alone& end) {
    Buffer out;
    while (!end.stream.readable().empty()) {
        const auto part = end.stream.readable();
        out.insert(out.end(), part.begin(), part.end());
        end.stream.consume(part.size());
    }
    return out;
}

TEST_CASE("blocks in any order, twice and overlapping give the stream as it was written", "[stream]") {
    const auto text = pattern(300'000);
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        INFO("CURVEGATE_SEED=" << seed);
        SeededRandom random(seed);
        Alone end;
        Buffer out;
        std::uint32_t id = 0;
        while (out.size() < text.size()) {
            // Mostly near to what is missing.
            const std::size_t far = random.one_in(4) ? 100'000 : 3'000;
            const std::size_t at =
                std::min<std::size_t>(end.stream.received() + random.below(far), text.size());
            const std::size_t back = random.below(std::min<std::size_t>(at, 1'000) + 1);
            const std::size_t size = std::min(random.below(1'025), text.size() - (at - back));
            REQUIRE(give(end, ++id, at - back, Bytes(text).subspan(at - back, size)).has_value());
            if (random.one_in(10)) {
                const auto part = take_all(end);
                out.insert(out.end(), part.begin(), part.end());
            }
        }
        CHECK(same(out, text));
    }
}

TEST_CASE("bytes that came do not change, whatever comes for their place", "[stream]") {
    Alone end;
    CHECK(give(end, 1, 0, Buffer(100, 1)).has_value());
    CHECK(give(end, 2, 0, Buffer(100, 2)).has_value());
    CHECK(give(end, 3, 50, Buffer(100, 3)).has_value());
    const auto text = take_all(end);
    REQUIRE(text.size() == 150);
    CHECK(std::ranges::count(text, 1) == 100);
    CHECK(std::ranges::count(text, 3) == 50);
}

TEST_CASE("a span of what is readable stays good while more comes", "[stream]") {
    Alone end;
    CHECK(give(end, 1, 0, Buffer(100, 1)).has_value());
    const auto part = end.stream.readable();
    for (std::uint32_t i = 1; i < 200; ++i) CHECK(give(end, i + 1, i * 1'000, Buffer(1'000, 2)).has_value());
    CHECK(give(end, 201, 100, Buffer(900, 2)).has_value());
    CHECK(std::ranges::count(part, 1) == 100);
    CHECK(end.stream.received() == 200'000);
    CHECK(take_all(end).size() == 200'000);
}

TEST_CASE("the end is seen only when all before it has come", "[stream]") {
    const auto how = GENERATE(StreamEnd::eof, StreamEnd::failure);
    Alone end;
    CHECK(give(end, 1, 100, Buffer(50), how).has_value());
    CHECK(end.stream.incoming() == Incoming::open);
    CHECK(give(end, 2, 0, Buffer(100)).has_value());
    CHECK(end.stream.incoming() == (how == StreamEnd::eof ? Incoming::ended : Incoming::failed));
    CHECK(take_all(end).size() == 150);
    // An end that becomes a failure later is one: the peer aborted what it had finished.
    if (how == StreamEnd::eof) {
        CHECK(give(end, 3, 150, {}, StreamEnd::failure).has_value());
        CHECK(end.stream.incoming() == Incoming::failed);
    }
}

TEST_CASE("ends that contradict what came are ignored", "[stream]") {
    Alone end;
    CHECK(give(end, 1, 1'000, Buffer(100)).has_value());
    CHECK(give(end, 2, 1'099, {}, StreamEnd::eof).has_value());  // bytes beyond it have come
    CHECK(give(end, 3, 0, Buffer(1'000)).has_value());
    CHECK(end.stream.incoming() == Incoming::open);
    CHECK(give(end, 4, 1'100, {}, StreamEnd::eof).has_value());
    CHECK(end.stream.incoming() == Incoming::ended);
    CHECK(give(end, 5, 1'200, {}, StreamEnd::eof).has_value());
    CHECK(give(end, 6, 1'100, Buffer(10)).has_value());
    CHECK(give(end, 7, 0, Buffer(10), StreamEnd::failure).has_value());
    CHECK(end.stream.incoming() == Incoming::ended);
    CHECK(end.stream.received() == 1'100);
}

TEST_CASE("a stream that nobody reads takes everything and keeps nothing", "[stream]") {
    constexpr std::size_t kChunk = Chunks::kChunk;
    Alone end;
    CHECK(give(end, 1, 0, Buffer(1'000)).has_value());
    CHECK(give(end, 2, 100'000, Buffer(1'000)).has_value());  // behind a hole
    CHECK(end.stream.statistics().memory > 2 * kChunk);
    end.stream.stop_reading();
    CHECK(end.stream.readable().empty());
    CHECK(end.stream.statistics().memory < kChunk);
    // What comes is acknowledged, and the window moves on, as if it had been read.
    for (std::uint32_t i = 1; i < 1'000; ++i) {
        CHECK(give(end, i + 2, i * 1'000, Buffer(1'000)).has_value());
        (void)end.all();
    }
    CHECK(end.stream.received() == 1'000'000);
    CHECK(end.stream.readable().empty());
    CHECK(end.stream.statistics().memory < kChunk);
    CHECK(give(end, 2'000, 1'000'000, Buffer(10), StreamEnd::eof).has_value());
    CHECK(end.stream.incoming() == Incoming::ended);
    const auto said = end.all();
    REQUIRE_FALSE(said.empty());
    CHECK(said.back().message.acked[0].end == 1'000'011);
    end.stream.finish();
    (void)end.all();
    CHECK(end.give_ack(1).has_value());
    CHECK(end.stream.done());
}

TEST_CASE("a ping anywhere is nothing but a ping", "[stream]") {
    Alone end;
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{5}, (std::uint64_t{1} << 60) - 1}) {
        CHECK(give(end, 1 + static_cast<std::uint32_t>(at % 7), at, {}).has_value());
        CHECK(end.stream.received() == 0);
        CHECK(end.stream.readable().empty());
        CHECK(end.stream.statistics().memory == 0);
    }
}

// ---- parts ----

TEST_CASE("a ring keeps its order while it grows and turns", "[stream]") {
    Ring<std::unique_ptr<int>> ring;
    SeededRandom random(1);
    int in = 0;
    int out = 0;
    for (int i = 0; i < 10'000; ++i) {
        if (ring.empty() || random.below(100) < 55) {
            ring.push_back(std::make_unique<int>(in++));
        } else {
            REQUIRE(*ring.front() == out++);
            ring.pop_front();
        }
        REQUIRE(ring.size() == static_cast<std::size_t>(in - out));
        if (!ring.empty()) REQUIRE(*ring.back() == in - 1);
        if (!ring.empty()) REQUIRE(*ring[ring.size() / 2] == out + static_cast<int>(ring.size() / 2));
    }
    ring.clear();
    ring.release();
    CHECK(ring.capacity() == 0);
    ring.push_back(std::make_unique<int>(7));
    CHECK(*ring.front() == 7);
}

TEST_CASE("chunks hold what was written across their edges", "[stream]") {
    Chunks chunks(stream::heap_chunks());
    const auto text = pattern(200'000);
    chunks.write(0, text);
    CHECK(chunks.memory() >= 4 * Chunks::kChunk);
    Buffer back(1'000);
    chunks.read(Chunks::kChunk - 500, back);
    CHECK(same(back, Bytes(text).subspan(Chunks::kChunk - 500, 1'000)));
    CHECK(chunks.view(10, 20).size() == 10);
    CHECK(chunks.view(Chunks::kChunk - 5, 200'000).size() == 5);
    CHECK(chunks.view(5, 5).empty());
    chunks.drop_before(3 * Chunks::kChunk - 1);
    CHECK(chunks.memory() < 3 * Chunks::kChunk);  // two in use
    CHECK(chunks.view(3 * Chunks::kChunk - 1, 200'000)[0] == text[3 * Chunks::kChunk - 1]);
    chunks.restart(500'000);
    CHECK(chunks.room(500'000).size() == Chunks::kChunk);
    chunks.restart(500'001);
    chunks.release();
    CHECK(chunks.memory() == 0);
}

TEST_CASE("a chunk is made only for what is written into it", "[stream]") {
    Chunks chunks(stream::heap_chunks());
    chunks.write(40 * Chunks::kChunk + 1, Buffer(10, 1));
    CHECK(chunks.memory() < 2 * Chunks::kChunk);
    chunks.write(0, Buffer(10, 2));
    CHECK(chunks.view(0, 10)[0] == 2);
    CHECK(chunks.view(40 * Chunks::kChunk + 1, 40 * Chunks::kChunk + 2)[0] == 1);
}

TEST_CASE("the guard keeps near to what comes back, and gives way where nothing does", "[stream]") {
    EchoGuard guard;
    CHECK_FALSE(guard.active());
    guard.on_received(0, 1'000, kNoon);
    CHECK_FALSE(guard.active());
    guard.on_received(10, 1'000, kNoon);
    REQUIRE(guard.active());
    CHECK(guard.limit() == 1'000 + EchoGuard::kAhead);
    const std::uint64_t sent = guard.limit();
    guard.on_received(500, sent, kNoon + 1ms);
    CHECK(guard.limit() == sent + 500);
    CHECK(guard.gives_way_at(1ms) == kNoon + 201ms);
    CHECK(guard.gives_way_at(1s) == kNoon + 4'001ms);
    guard.give_way(sent + 500, kNoon + 201ms);
    CHECK(guard.limit() == sent + 500 + EchoGuard::kAhead);
    CHECK(guard.gives_way_at(1ms) == kNoon + 401ms);
    guard.give_way(guard.limit(), kNoon + 401ms);
    CHECK(guard.limit() == sent + 500 + 3 * EchoGuard::kAhead);
    // All came back: it is near again.
    guard.on_received(1 << 30, guard.limit(), kNoon + 500ms);
    CHECK(guard.limit() == sent + 500 + 4 * EchoGuard::kAhead);
    guard.give_way(guard.limit(), kNoon + 1s);
    CHECK(guard.limit() == sent + 500 + 5 * EchoGuard::kAhead);
}

}  // namespace
}  // namespace curvegate::test
