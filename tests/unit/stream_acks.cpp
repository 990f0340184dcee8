#include "stream/acks.hpp"
#include "support/stream_messages.hpp"

#include <catch2/catch.hpp>

#include <set>

/// Which acknowledgments go out, when, and what they say (PROTOCOL 9).
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

TEST_CASE("the first message of a peer of our kind is answered at once, so that it knows us", "[stream]") {
    Alone end;
    CHECK(end.give_block(1, 0, 100).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.extension->limit == 256 * 1'024);
}

TEST_CASE("a peer of our kind gets one acknowledgment for two messages, at once", "[stream]") {
    Alone end;
    CHECK(end.give_ack(0).has_value());
    CHECK(end.all().size() == 1);
    CHECK(end.give_block(1, 0, 100).has_value());
    CHECK(end.all().empty());
    CHECK(end.give_block(2, 100, 100).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].bytes.size() == 64);
    CHECK(said[0].is_pure_ack());
    CHECK(said[0].message.acked_id == MessageId{2});
    CHECK(said[0].message.acked[0].end == 200);
    CHECK(said[0].message.extension.has_value());
}

TEST_CASE("a peer of our kind gets an acknowledgment of one message within 5 ms", "[stream]") {
    Alone end;
    CHECK(end.give_ack(0).has_value());
    CHECK(end.all().size() == 1);
    CHECK(end.give_block(1, 0, 100).has_value());
    CHECK(end.all().empty());
    CHECK(end.stream.next_deadline() == end.now + 5ms);
    end.now += 5ms - 1ns;
    CHECK(end.all().empty());
    end.now += 1ns;
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{1});
    CHECK(said[0].message.acked[0].end == 100);
}

TEST_CASE("a batch of a peer of our kind gets one acknowledgment that names the newest", "[stream]") {
    Alone end;
    for (std::uint32_t i = 0; i < 10; ++i) CHECK(end.give_block(i + 1, i * 100, 100).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{10});
    CHECK(said[0].message.acked[0].end == 1'000);
}

TEST_CASE("a hole, its end, the end of the stream and a ping are acknowledged at once", "[stream]") {
    Alone end;
    CHECK(end.give_block(1, 100, 100).has_value());
    auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked[0].end == 0);
    CHECK(said[0].message.acked[1] == Range{100, 200});
    CHECK(end.give_block(2, 0, 100).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked[0].end == 200);
    CHECK(said[0].message.acked[1].begin == said[0].message.acked[1].end);
    CHECK(end.give_block(3, 200, 0).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{3});
    CHECK(end.give_block(4, 200, 50, StreamEnd::eof).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked[0].end == 251);
}

TEST_CASE("any other peer gets one acknowledgment of 192 bytes for each message, at once", "[stream]") {
    Alone end({}, false);
    for (std::uint32_t i = 0; i < 5; ++i) CHECK(end.give_block(i + 7, i * 100, 100).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 5);
    for (std::uint32_t i = 0; i < 5; ++i) {
        CHECK(said[i].bytes.size() == 192);
        CHECK(said[i].is_pure_ack());
        CHECK(said[i].message.acked_id == MessageId{i + 7});
        CHECK(said[i].message.acked[0].end == 500);
        CHECK(said[i].message.extension.has_value());
    }
    CHECK(end.all().empty());
}

// The reference takes the round trip of a block that it knows to be done from time zero.
TEST_CASE("another peer is told ranges only where no id in them is still to be named", "[stream]") {
    Alone end({}, false);
    for (std::uint32_t i = 1; i <= 3; ++i) CHECK(end.give_block(i, i * 100, 100).has_value());
    auto said = end.all();
    REQUIRE(said.size() == 3);
    CHECK(said[0].message.acked[1].begin == said[0].message.acked[1].end);
    CHECK(said[1].message.acked[1].begin == said[1].message.acked[1].end);
    CHECK(said[2].message.acked[1] == Range{100, 400});
    // Sent again although a range took it in: acknowledged without a name.
    CHECK(end.give_block(4, 200, 100).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{0});
    CHECK(said[0].message.acked[1] == Range{100, 400});
    // So is an empty end, which any range reaching up to it takes in.
    CHECK(end.give_block(5, 400, 0, StreamEnd::eof).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{0});
    CHECK(end.give_block(6, 0, 100).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{6});
    CHECK(said[0].message.acked[0].end == 401);
}

TEST_CASE("no id is named twice", "[stream]") {
    const bool ours = GENERATE(false, true);
    Alone end({}, ours);
    std::multiset<std::uint32_t> named;
    SeededRandom random(1);
    for (std::uint32_t i = 1; i <= 300; ++i) {
        const auto id = i - static_cast<std::uint32_t>(random.below(std::min(i, 40U)));
        CHECK(end.give_block(id, (id - 1) * 10, 10).has_value());
        if (random.one_in(2)) continue;
        for (const auto& one : end.all())
            if (one.message.acked_id.value != 0) named.insert(one.message.acked_id.value);
    }
    CHECK(named.size() > 50);
    for (const auto id : named) CHECK(named.count(id) == 1);
}

TEST_CASE("ids are told apart across their wrap", "[stream]") {
    stream::Acks acks;
    acks.peer_is_ours();
    std::vector<std::uint32_t> named;
    for (const std::uint32_t id : {0xfffffffeU, 0xffffffffU, 1U, 0xffffffffU, 2U, 0xfffffffeU, 1U, 3U}) {
        acks.owe({id}, stream::Acks::ById::named, stream::Acks::Urgency::now, kNoon);
        named.push_back(acks.take().value);
    }
    CHECK(named == std::vector<std::uint32_t>{0xfffffffe, 0xffffffff, 1, 0, 2, 0, 0, 3});
}

TEST_CASE("a pure acknowledgment is not acknowledged", "[stream]") {
    const bool ours = GENERATE(false, true);
    Alone end({}, ours);
    end.write(1'000);
    REQUIRE(end.all().size() == 1);
    CHECK(end.give_ack(1'000, 1).has_value());
    CHECK(end.give_ack(1'000).has_value());
    end.now += 1s;
    for (const auto& one : end.all()) CHECK(one.message.acked_id == MessageId{0});
    end.now += 1s;
    CHECK(end.all().empty());
}

TEST_CASE("what is ignored is not acknowledged", "[stream]") {
    const bool ours = GENERATE(false, true);
    Alone end({}, ours);
    CHECK(end.give_block(1, 0, 100, StreamEnd::eof).has_value());
    REQUIRE(end.all().size() == 1);
    CHECK(end.give_block(2, 100, 1).has_value());                      // beyond the end
    CHECK(end.give_block(3, 0, 99, StreamEnd::eof).has_value());       // another end
    CHECK(end.give_block(4, 101, 0, StreamEnd::failure).has_value());  // another one
    CHECK(end.give_block(5, std::uint64_t{1} << 59, 100).has_value());
    Buffer odd(64);
    store_le<std::uint32_t>(MutableBytes(odd).subspan<0, 4>(), 6);
    store_le<std::uint16_t>(MutableBytes(odd).subspan<38, 2>(), 8'192);
    CHECK(end.receive(odd).has_value());
    end.now += 10ms;
    CHECK(end.all().empty());
    CHECK(end.stream.received() == 100);
    CHECK(end.stream.incoming() == stream::Incoming::ended);
}

TEST_CASE("a block beyond what we keep is ignored, one up to it is kept", "[stream]") {
    const bool ours = GENERATE(false, true);
    Alone end({.most_unread = 100'000}, ours);
    CHECK(end.give_block(1, 99'001, 1'000).has_value());
    CHECK(end.all().size() <= 1);
    CHECK(end.stream.statistics().memory == 0);
    CHECK(end.give_block(2, 99'000, 1'000).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.acked_id == MessageId{2});
}

TEST_CASE("acknowledgments ride on data for a peer of our kind", "[stream]") {
    Alone end;
    CHECK(end.give_block(1, 100, 100).has_value());
    end.write(1'000);
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.block.size() == 1'000);
    CHECK(said[0].message.acked_id == MessageId{1});
    CHECK(said[0].message.acked[1] == Range{100, 200});
    end.now += 5ms;
    CHECK(end.all().empty());
}

TEST_CASE("acknowledgments go out whatever window and pace say", "[stream]") {
    Alone end;
    end.write(1 << 20);
    CHECK(end.give_ack(0).has_value());
    CHECK_FALSE(end.all().empty());
    CHECK(end.stream.statistics().in_flight >= 9 * 1'088);
    CHECK(end.give_block(1, 0, 100).has_value());
    CHECK(end.give_block(2, 100, 100).has_value());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].is_pure_ack());
}

TEST_CASE("a peer that shows our extension late is served as ours from then on", "[stream]") {
    Alone end({}, false);
    for (std::uint32_t i = 0; i < 3; ++i) CHECK(end.give_block(i + 1, i * 100, 100).has_value());
    CHECK_FALSE(end.stream.peer_is_ours());
    end.ours = true;
    CHECK(end.give_block(4, 300, 100).has_value());
    CHECK(end.stream.peer_is_ours());
    const auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].bytes.size() == 64);
    CHECK(said[0].message.acked_id == MessageId{4});
}

TEST_CASE("ids of another peer that wait to be named are bounded", "[stream]") {
    Alone end({}, false);
    for (std::uint32_t i = 0; i < 10'000; ++i) CHECK(end.give_block(i + 1, i * 10, 10).has_value());
    const auto said = end.all();
    CHECK(said.size() == 128);
    CHECK(said.back().message.acked_id == MessageId{10'000});
}

// ---- the limit ----

TEST_CASE("the limit grows with what is consumed and is told when it is news", "[stream]") {
    Alone end;
    constexpr std::uint64_t kWindow = 256 * 1'024;
    CHECK(end.give_block(1, 0, 1'024).has_value());
    end.now += 5ms;
    auto said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.extension->limit == kWindow);
    for (std::uint32_t i = 1; i < 128; ++i) CHECK(end.give_block(i + 1, i * 1'024, 1'024).has_value());
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].message.extension->limit == kWindow);  // nothing consumed
    const auto eat = [&](std::size_t size) {
        while (size > 0) {
            const std::size_t part = std::min(size, end.stream.readable().size());
            end.stream.consume(part);
            size -= part;
        }
    };
    eat(kWindow / 4 - 1);
    CHECK(end.all().empty());
    eat(1);
    said = end.all();
    REQUIRE(said.size() == 1);
    CHECK(said[0].is_pure_ack());
    CHECK(said[0].message.extension->limit == kWindow + kWindow / 4);
    CHECK(end.all().empty());
}

TEST_CASE("the window doubles for a local side that keeps up, and for no other", "[stream]") {
    const bool keeps_up = GENERATE(true, false);
    Alone end({.most_unread = 1 << 20});
    std::uint64_t told = 0;
    for (std::uint32_t i = 0; i < 8 * 1'024; ++i) {
        CHECK(end.give_block(i + 1, std::uint64_t{i} * 1'024, 1'024).has_value());
        // Without delay, or with more than half of the window unread.
        if (keeps_up || (i + 1) % 200 == 0) {
            while (!end.stream.readable().empty()) end.stream.consume(end.stream.readable().size());
        }
        for (const auto& one : end.all()) {
            CHECK(one.message.extension->limit >= told);
            told = one.message.extension->limit;
        }
    }
    const std::uint64_t window = told - end.stream.received();
    if (keeps_up) {
        CHECK(window == 1 << 20);
    } else {
        CHECK(window <= 256 * 1'024);
    }
}

}  // namespace
}  // namespace curvegate::test
