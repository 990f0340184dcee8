#include "handshake/errors.hpp"
#include "support/pipes.hpp"

#include <catch2/catch.hpp>

namespace curvegate::tunnel {
namespace {

using test::Buffer;
using test::On;
using test::pattern;
using test::Side;

/// Two pipes that are connected to each other, and who uses them.
struct Line {
    asio::io_context context;
    test::PipePair pair;
    std::optional<test::TunnelPair>& tunnels = pair.tunnels;
    std::optional<Side> near;
    std::optional<Side> far;

    explicit Line(On carrier, std::uint64_t first = 2) : pair(context, carrier, first) {
        near.emplace(std::move(pair.near));
        far.emplace(std::move(pair.far));
    }
    void start() const {
        near->pipe->start();
        far->pipe->start();
    }
    [[nodiscard]] bool until(const std::function<bool()>& holds) { return test::run_until(context, holds); }
};

On either() {
    return GENERATE(On::tcp, On::udp);
}

TEST_CASE("a pipe carries messages of every size both ways, in order", "[net][messages]") {
    Line line(either());
    line.start();
    const std::vector<std::size_t> sizes = {0, 1, 3, 1'000, 1'452, 65'000, 65'503, 0, 0, 7};
    for (const auto size : sizes) {
        line.near->say(pattern(size));
        line.far->say(pattern(size));
    }
    REQUIRE(line.until([&] { return line.far->got.size() == 10 && line.near->got.size() == 10; }));
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        CHECK(test::same(line.near->got[i], pattern(sizes[i])));
        CHECK(test::same(line.far->got[i], pattern(sizes[i])));
    }
    CHECK(line.near->ends.empty());
}

TEST_CASE("messages arrive whole wherever the tunnel's memory has its seams", "[net][messages]") {
    Line line(either());
    line.start();
    const auto size = GENERATE(1U, 1'021U, 50'001U);
    const std::size_t count = 400'000 / (size + 1) + 1;
    std::size_t sent = 0;
    REQUIRE(line.until([&] {
        for (; sent < count && line.near->pipe->backlog() == 0; ++sent) line.near->say(pattern(size));
        return line.far->got.size() == count;
    }));
    CHECK(std::ranges::all_of(line.far->got, [&](const Buffer& one) { return one == pattern(size); }));
}

TEST_CASE("a message over a pipe's limit is refused and the pipe goes on", "[net][messages]") {
    Line line(either());
    line.start();
    CHECK(line.near->pipe->most() == 65'503);
    const auto sent = line.near->pipe->send(pattern(65'504));
    REQUIRE_FALSE(sent.has_value());
    CHECK(sent.error().is(session::Errc::message_too_long));
    line.near->say(pattern(5));
    REQUIRE(line.until([&] { return line.far->got.size() == 1; }));
    CHECK(line.far->got[0] == pattern(5));
}

TEST_CASE("a pipe gives a message only when it is wanted", "[net][messages]") {
    Line line(either());
    for (std::size_t size = 1; size <= 5; ++size) line.near->say(pattern(size));
    test::run_ready(line.context);
    CHECK(line.far->got.empty());
    line.far->want(2);
    REQUIRE(line.until([&] { return line.far->got.size() == 2; }));
    test::run_ready(line.context);
    CHECK(line.far->got.size() == 2);
    line.far->want(3);
    REQUIRE(line.until([&] { return line.far->got.size() == 5; }));
    CHECK(line.far->got[4] == pattern(5));
}

TEST_CASE("a pipe whose peer does not read says how much waits, and when nothing does", "[net][messages]") {
    Line line(either());
    std::size_t sent = 0;
    while (line.near->pipe->backlog() < 200'000) {
        REQUIRE(++sent < 1'000);
        line.near->say(pattern(60'000));
        test::run_ready(line.context);
    }
    CHECK(line.near->drained == 0);
    line.far->pipe->start();
    REQUIRE(line.until([&] { return line.far->got.size() == sent; }));
    CHECK(line.near->drained == 1);
    CHECK(line.near->pipe->backlog() == 0);
    CHECK(std::ranges::all_of(line.far->got, [](const Buffer& one) { return one == pattern(60'000); }));
}

TEST_CASE("a pipe that is closed ends the peer's after what was sent", "[net][messages]") {
    Line line(either());
    for (std::size_t size = 1; size <= 3; ++size) line.near->say(pattern(size));
    line.near->pipe->close();
    line.near->pipe->close();
    CHECK_FALSE(line.near->pipe->takes_more());
    const auto late = line.near->pipe->send(pattern(1));
    REQUIRE_FALSE(late.has_value());
    CHECK(late.error().is(handshake::Errc::peer_closed));
    line.far->pipe->start();
    REQUIRE(line.until([&] { return !line.far->ends.empty(); }));
    CHECK(line.far->got.size() == 3);
    CHECK(line.far->ends == std::vector{End::closed});
    CHECK(line.near->ends.empty());
}

TEST_CASE("a pipe that is closed before all is across cuts no message in two", "[net][messages]") {
    Line line(either());
    std::size_t sent = 0;
    while (line.near->pipe->backlog() == 0) {
        REQUIRE(++sent < 1'000);
        line.near->say(pattern(60'000));
        test::run_ready(line.context);
    }
    line.near.reset();
    line.far->pipe->start();
    REQUIRE(line.until([&] { return !line.far->ends.empty(); }));
    CHECK(line.far->got.size() < sent);
    CHECK(std::ranges::all_of(line.far->got, [](const Buffer& one) { return one == pattern(60'000); }));
    CHECK(line.far->ends == std::vector{End::closed});
    if (line.tunnels) CHECK(line.tunnels->far->stream().incoming() == stream::Incoming::failed);
}

TEST_CASE("a handler may close its pipe, and what is gone is told nothing more", "[net][messages]") {
    Line line(either());
    int calls = 0;
    const bool destroy = GENERATE(false, true);
    line.far->pipe->on_message = [&](Bytes message) {
        ++calls;
        if (!destroy) line.far->pipe->close();
        if (line.tunnels) CHECK(line.tunnels->far->released == 0);
        CHECK(test::same(message, pattern(1'000)));  // still there
        if (destroy) {
            // The handler must not be destroyed under its own feet.
            asio::post(line.context, [&line] { line.far.reset(); });
            return false;
        }
        return true;
    };
    line.far->pipe->start();
    line.near->pipe->start();
    for (int i = 0; i < 3; ++i) line.near->say(pattern(1'000));
    REQUIRE(line.until([&] { return !line.near->ends.empty(); }));
    CHECK(calls == 1);
    CHECK(line.near->ends == std::vector{End::closed});
    if (line.far) CHECK(line.far->ends.empty());
}

TEST_CASE("messages that are held go out together", "[net][messages]") {
    Line line(either());
    line.start();
    line.near->pipe->hold();
    for (int i = 0; i < 10; ++i) line.near->say(pattern(10));
    test::run_ready(line.context);
    CHECK(line.far->got.empty());
    if (line.tunnels) CHECK_FALSE(line.tunnels->near->stream().has_sent_bytes());
    line.near->pipe->flush();
    REQUIRE(line.until([&] { return line.far->got.size() == 10; }));
    line.near->say(pattern(11));
    REQUIRE(line.until([&] { return line.far->got.size() == 11; }));
}

// ---- tcp ----

TEST_CASE("bytes that are no message end a tcp pipe", "[net][messages]") {
    asio::io_context context;
    auto [ours, theirs] = test::tcp_pair(context);
    Side side(test::tcp_pipe(std::move(ours), session::Role::server));
    side.pipe->start();
    test::Local peer{std::move(theirs), {}, false, {}};
    const auto bad = GENERATE(Buffer{0, 31}, Buffer{0, 0}, Buffer{0, 33, 'R', 'L', '3', 'a'});
    peer.write(bad);
    if (bad.size() > 2) peer.write(pattern(29));
    REQUIRE(test::run_until(context, [&] { return !side.ends.empty(); }));
    CHECK(side.ends == std::vector{bad.size() > 2 ? End::bad_message : End::bad_length});
    CHECK(side.got.empty());
}

TEST_CASE("a tcp pipe that meets a reset takes no more, and still gives what came before",
          "[net][messages]") {
    asio::io_context context;
    auto [ours, theirs] = test::tcp_pair(context);
    Side near(test::tcp_pipe(std::move(ours), session::Role::client));
    auto far = std::make_unique<Side>(test::tcp_pipe(std::move(theirs), session::Role::server));
    far->say(pattern(9));
    far.reset();
    // The first makes the dead end answer with a reset, the second meets it.
    (void)near.pipe->send(pattern(1));
    const auto sent = near.pipe->send(pattern(2));
    REQUIRE_FALSE(sent.has_value());
    CHECK(sent.error().is(handshake::Errc::peer_closed));
    CHECK_FALSE(near.pipe->takes_more());
    CHECK(near.pipe->backlog() == 0);
    near.pipe->start();
    REQUIRE(test::run_until(context, [&] { return !near.ends.empty(); }));
    CHECK(near.got == std::vector<Buffer>{pattern(9)});
    CHECK(near.ends == std::vector{End::closed});
}

TEST_CASE("a tcp pipe ends with its last message number", "[net][messages]") {
    Line line(On::tcp, ~std::uint64_t{0} - 2);
    line.start();
    line.near->say(pattern(1));
    REQUIRE(line.until([&] { return line.far->got.size() == 1; }));
    CHECK(line.far->ends.empty());
    line.near->say(pattern(2));
    SECTION("and says so to who wants to send more") {
        const auto none_left = line.near->pipe->send(pattern(3));
        REQUIRE_FALSE(none_left.has_value());
        CHECK(none_left.error().is(session::Errc::numbers_exhausted));
    }
    SECTION("though nobody does") {
        CHECK(line.near->ends.empty());  // never from within
    }
    REQUIRE(line.until([&] { return !line.far->ends.empty() && !line.near->ends.empty(); }));
    CHECK(line.far->got.size() == 2);
    CHECK(line.far->ends == std::vector{End::numbers_used_up});
    CHECK(line.near->ends == std::vector{End::numbers_used_up});
}

// ---- udp ----

/// A pipe over a stream whose other end is in the test's hands.
struct Raw {
    asio::io_context context;
    test::TunnelPair tunnels{context};
    Side side{std::make_unique<tunnel::curvecp::StreamMessages>(tunnels.near_end())};

    void write(Bytes bytes) {
        auto& stream = tunnels.far->stream();
        REQUIRE(stream.prepare().size() >= bytes.size());
        std::ranges::copy(bytes, stream.prepare().begin());
        stream.commit(bytes.size());
        tunnels.far->flush();
        test::run_ready(context);
    }
    [[nodiscard]] bool over() {
        return test::run_until(context, [this] { return !side.ends.empty(); });
    }
};

TEST_CASE("a message on a stream is its length in 4 bytes, little-endian, and its bytes", "[net][messages]") {
    Raw raw;
    raw.side.say(pattern(0x0102));
    REQUIRE(test::run_until(raw.context, [&] { return raw.tunnels.far->stream().received() == 0x0106; }));
    const auto bytes = raw.tunnels.far->stream().readable();
    CHECK(test::same(bytes.first(4), Buffer{2, 1, 0, 0}));
    CHECK(test::same(bytes.subspan(4), pattern(0x0102)));
}

TEST_CASE("a stream's messages may come in single bytes", "[net][messages]") {
    Raw raw;
    raw.side.pipe->start();
    for (const Byte byte : Buffer{2, 0, 0, 0, 8, 9, 0, 0, 0, 0, 1, 0, 0, 0, 7}) raw.write(Buffer{byte});
    REQUIRE(test::run_until(raw.context, [&] { return raw.side.got.size() == 3; }));
    CHECK(raw.side.got == std::vector<Buffer>{{8, 9}, {}, {7}});
}

TEST_CASE("a message that lies whole in the stream stays there for its handler", "[net][messages]") {
    Raw raw;
    auto& stream = raw.tunnels.near->stream();
    std::vector<bool> lent;
    std::vector<std::size_t> unread;
    raw.side.pipe->on_message = [&](Bytes message) {
        const Bytes bytes = stream.readable();
        unread.push_back(bytes.size());
        lent.push_back(bytes.size() >= 4 && message.data() == bytes.data() + 4);
        return true;
    };
    raw.write(Buffer{2, 0, 0, 0, 8, 9, 0, 0, 0, 0, 1, 0, 0, 0});
    REQUIRE(test::run_until(raw.context, [&] { return stream.readable().size() == 14; }));
    raw.side.pipe->start();
    CHECK(stream.readable().empty());
    CHECK(unread == std::vector<std::size_t>{14, 8});
    // The third has been put together: the stream has its bytes no longer.
    raw.write(Buffer{7});
    REQUIRE(test::run_until(raw.context, [&] { return unread.size() == 3; }));
    CHECK(unread.back() == 0);
    CHECK(lent == std::vector{true, true, false});
}

TEST_CASE("a length over the limit ends a stream's pipe at once", "[net][messages]") {
    const auto [length, bad] =
        GENERATE(std::pair{65'503U, false}, std::pair{65'504U, true}, std::pair{0x01000000U, true});
    Raw raw;
    const auto bytes = to_le(std::uint32_t{length});
    SECTION("in one piece") {
        raw.write(bytes);
    }
    SECTION("with what follows, all of it there") {
        Buffer whole(bytes.begin(), bytes.end());
        whole.resize(bad ? 65'536 : 60'000);
        raw.write(whole);
        auto& stream = raw.tunnels.near->stream();
        REQUIRE(test::run_until(raw.context, [&] { return stream.readable().size() == whole.size(); }));
    }
    SECTION("in two") {
        raw.side.pipe->start();
        raw.write(Bytes(bytes).first(2));
        raw.write(Bytes(bytes).subspan(2));
    }
    raw.side.pipe->start();
    if (bad) {
        REQUIRE(raw.over());
        CHECK(raw.side.ends == std::vector{End::bad_length});
    } else {
        test::run_ready(raw.context);
        CHECK(raw.side.ends.empty());
    }
}

TEST_CASE("the end of a stream is that of its pipe, between messages and within one", "[net][messages]") {
    Raw raw;
    raw.side.pipe->start();
    const bool failed = GENERATE(false, true);
    const auto tail = GENERATE(Buffer{}, Buffer{5}, Buffer{5, 0, 0, 0, 1});
    raw.write(Buffer{1, 0, 0, 0, 42});
    raw.write(tail);
    REQUIRE(test::run_until(raw.context,
                            [&] { return raw.tunnels.near->stream().received() == 5 + tail.size(); }));
    if (failed) {
        raw.tunnels.far->stream().abort();
    } else {
        raw.tunnels.far->stream().finish();
    }
    raw.tunnels.far->flush();
    REQUIRE(raw.over());
    CHECK(raw.side.ends == std::vector{End::closed});
    CHECK(raw.side.got == std::vector<Buffer>{{42}});
}

TEST_CASE("a tunnel that ends is its pipe's end, after what had come", "[net][messages]") {
    const auto why = GENERATE(End::bad_message, End::dead_peer, End::no_answer, End::cannot_ask, End::stopped,
                              End::numbers_used_up);
    Raw raw;
    raw.write(Buffer{1, 0, 0, 0, 1, 1, 0, 0, 0, 2});
    REQUIRE(test::run_until(raw.context, [&] { return raw.tunnels.near->stream().received() == 10; }));
    raw.tunnels.near->end(why);
    CHECK_FALSE(raw.side.pipe->takes_more());
    CHECK(raw.side.ends.empty());
    raw.side.want(1);
    CHECK(raw.side.got.size() == 1);
    CHECK(raw.side.ends.empty());
    raw.side.want(9);
    CHECK(raw.side.got.size() == 2);
    CHECK(raw.side.ends == std::vector{why});
}

TEST_CASE("what is sent while something waits comes after it", "[net][messages]") {
    Raw raw;
    while (raw.side.pipe->backlog() == 0) raw.side.say(pattern(60'000));
    const std::size_t waits = raw.side.pipe->backlog();
    // Room comes, and the pipe does not know of it yet.
    const auto event = std::exchange(raw.tunnels.near->on_event, nullptr);
    auto& far = *raw.tunnels.far;
    REQUIRE(test::run_until(raw.context, [&] {
        far.stream().consume(far.stream().readable().size());
        far.flush();
        return raw.tunnels.near->stream().prepare().size() > 1'000;
    }));
    raw.side.say(pattern(500));
    CHECK(raw.side.pipe->backlog() == waits + 504);
    raw.tunnels.near->on_event = event;
    raw.tunnels.near->poke();
    CHECK(raw.side.pipe->backlog() == 0);
}

TEST_CASE("who waits for room is told when the tunnel ends", "[net][messages]") {
    Raw raw;
    while (raw.side.pipe->backlog() == 0) raw.side.say(pattern(60'000));
    raw.tunnels.near->end(End::dead_peer);
    CHECK(raw.side.drained == 1);
    CHECK_FALSE(raw.side.pipe->takes_more());
    CHECK(raw.side.pipe->backlog() == 0);
}

}  // namespace
}  // namespace curvegate::tunnel
