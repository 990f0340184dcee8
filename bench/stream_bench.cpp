#include "io/chunk_pool.hpp"
#include "stream/stream.hpp"

#include <benchmark/benchmark.h>

#include <array>

/// What CurveCP's message layer costs without boxes and sockets: messages handed from one end to the other,
/// in batches as an actor would take them, under virtual time.
namespace curvegate {
namespace {

stream::ChunkSource& chunk_pool() {
    static io::ChunkPool pool;
    return pool;
}

using namespace std::chrono_literals;
using stream::Stream;

constexpr std::size_t kBatch = 32;

struct Batch {
    std::array<ByteArray<wire::curvecp::kMaxMessage>, kBatch> messages;
    std::array<std::size_t, kBatch> sizes{};
    std::size_t count = 0;

    void take(Stream& from, Instant now) {
        for (count = 0; count < kBatch; ++count) {
            sizes[count] = from.next_message(messages[count], now);
            if (sizes[count] == 0) return;
        }
    }
    void give(Stream& to, std::size_t i, Instant now) const {
        const auto message = wire::curvecp::parse_message(Bytes(messages[i]).first(sizes[i]));
        benchmark::DoNotOptimize(to.receive(*message, now));
    }
    void give(Stream& to, Instant now) const {
        for (std::size_t i = 0; i < count; ++i) give(to, i, now);
    }
};

/// Two ends 50 us apart.
struct Pair {
    Instant now = Instant(1h);
    Stream left;
    Stream right;
    Batch up;
    Batch down;

    explicit Pair(const stream::Options& options = {.off_loopback = false, .chunks = &chunk_pool()})
        : left(options, now), right(options, now) {}
    void exchange() {
        up.take(left, now);
        now += 50us;
        up.give(right, now);
        right.consume(right.readable().size());
        down.take(right, now);
        now += 50us;
        down.give(left, now);
        left.consume(left.readable().size());
    }
};

/// One direction at full speed: counts blocks of 1,024 bytes through send and receive, acknowledgments
/// included.
void bulk(benchmark::State& state) {
    Pair pair;
    for (auto _ : state) {
        for (auto room = pair.left.prepare(); !room.empty(); room = pair.left.prepare()) {
            benchmark::DoNotOptimize(room.data());
            pair.left.commit(room.size());
        }
        pair.exchange();
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(pair.right.received() / wire::curvecp::kMaxBlock));
    state.SetBytesProcessed(static_cast<std::int64_t>(pair.right.received()));
}
BENCHMARK(bulk);

/// The same with every hundredth message of the sender lost.
void bulk_with_loss(benchmark::State& state) {
    Pair pair;
    std::uint64_t messages = 0;
    for (auto _ : state) {
        for (auto room = pair.left.prepare(); !room.empty(); room = pair.left.prepare())
            pair.left.commit(room.size());
        pair.up.take(pair.left, pair.now);
        for (std::size_t i = 0; i < pair.up.count; ++i) {
            if (++messages % 100 == 0) continue;
            pair.up.give(pair.right, i, pair.now);
        }
        while (!pair.right.readable().empty()) pair.right.consume(pair.right.readable().size());
        pair.now += 100us;
        pair.down.take(pair.right, pair.now);
        pair.down.give(pair.left, pair.now);
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(pair.right.received() / wire::curvecp::kMaxBlock));
}
BENCHMARK(bulk_with_loss);

/// A question of 64 bytes and an answer of 64 bytes.
void question_and_answer(benchmark::State& state) {
    Pair pair;
    for (auto _ : state) {
        benchmark::DoNotOptimize(pair.left.prepare().data());
        pair.left.commit(64);
        pair.exchange();
        benchmark::DoNotOptimize(pair.right.prepare().data());
        pair.right.commit(64);
        pair.exchange();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(question_and_answer);

void make_and_drop(benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(Stream({}, Instant(1h)));
}
BENCHMARK(make_and_drop);

void parse(benchmark::State& state) {
    ByteArray<wire::curvecp::kMaxMessage> bytes{};
    const ByteArray<wire::curvecp::kMaxBlock> block{};
    wire::curvecp::Message message;
    message.id = {1};
    message.block = block;
    message.extension = wire::curvecp::Extension{.limit = 1};
    serialise(message, bytes);
    for (auto _ : state) benchmark::DoNotOptimize(wire::curvecp::parse_message(bytes));
}
BENCHMARK(parse);

}  // namespace
}  // namespace curvegate

BENCHMARK_MAIN();
