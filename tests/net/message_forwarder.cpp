#include "forward/message_forwarder.hpp"
#include "support/pipes.hpp"

#include <boost/asio/post.hpp>

#include <catch2/catch.hpp>

namespace curvegate::forward {
namespace {

using namespace std::chrono_literals;
using test::Buffer;
using test::On;
using test::pattern;
using test::Side;
using tunnel::End;

On either() {
    return GENERATE(On::tcp, On::udp);
}

/// The application's end of a pair of SEQPACKET sockets.
struct App {
    io::Stream socket;
    std::vector<Buffer> got;
    bool ended = false;
    int broken = 0;  ///< an errno

    /// Takes what is there.
    void read() {
        Buffer room(70'000);
        while (!ended && broken == 0) {
            const auto size = ::recv(socket.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
            if (size < 0 && errno == EAGAIN) return;
            if (size < 0) {
                broken = errno;
            } else if (size == 0) {
                ended = true;
            } else {
                got.emplace_back(room.begin(), room.begin() + size);
            }
        }
    }
    /// False: there is no room now.
    bool say(Bytes record) {
        const auto sent =
            ::send(socket.native_handle(), record.data(), record.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        return sent == static_cast<ssize_t>(record.size());
    }
    void end() { (void)::shutdown(socket.native_handle(), SHUT_WR); }
};

std::pair<io::Stream, io::Stream> records(asio::io_context& context) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    return {test::stream_of(context, ends[0], AF_UNIX), test::stream_of(context, ends[1], AF_UNIX)};
}

struct Rig {
    asio::io_context context;
    tunnel::Scratch scratch;
    test::PipePair pair;
    tunnel::MessagePipe& pipe;
    Side peer;
    App app;
    std::shared_ptr<MessageForwarder> forwarder;
    std::vector<ForwarderSummary> done;

    explicit Rig(On carrier, const ForwarderLimits& limits = {}, std::uint64_t first = 2)
        : pair(context, carrier, first),
          pipe(*pair.near),
          peer(std::move(pair.far)),
          app{io::Stream(context), {}} {
        auto [near, far] = records(context);
        app.socket = std::move(far);
        forwarder =
            std::make_shared<MessageForwarder>(std::move(near), std::move(pair.near), limits, scratch);
        forwarder->start([this](const ForwarderSummary& summary) { done.push_back(summary); });
    }
    [[nodiscard]] bool until(const std::function<bool()>& holds) {
        return test::run_until(context, [&] {
            app.read();
            return holds();
        });
    }
    /// Without reading what comes for the application.
    [[nodiscard]] bool until_unread(const std::function<bool()>& holds) {
        return test::run_until(context, holds);
    }
    /// The application sends `count` records, waiting where it must.
    void say_many(std::size_t count, std::size_t size) {
        std::size_t said = 0;
        REQUIRE(until([&] {
            while (said < count && app.say(pattern(size + said))) ++said;
            return said == count;
        }));
    }
};

TEST_CASE("a record is a message and a message a record, in order, of any size", "[net][records]") {
    Rig rig(either());
    rig.peer.pipe->start();
    std::vector<Buffer> all;
    std::uint64_t bytes = 0;
    for (const std::size_t size : std::initializer_list<std::size_t>{1, 2, 1'452, 65'503, 7, 65'502, 1}) {
        all.push_back(pattern(size));
        bytes += size;
        REQUIRE(rig.until([&] { return rig.app.say(all.back()); }));
        rig.peer.say(all.back());
    }
    REQUIRE(rig.until([&] { return rig.peer.got.size() == all.size() && rig.app.got.size() == all.size(); }));
    CHECK(rig.peer.got == all);
    CHECK(rig.app.got == all);
    rig.forwarder->stop(Ending::stopped);
    REQUIRE(rig.done.size() == 1);
    CHECK(rig.done[0].bytes_up == bytes);
    CHECK(rig.done[0].bytes_down == bytes);
}

TEST_CASE("an end is an empty message, each direction for itself", "[net][records]") {
    Rig rig(either());
    rig.peer.pipe->start();
    SECTION("the application first") {
        REQUIRE(rig.app.say(pattern(3)));
        rig.app.end();
        REQUIRE(rig.until([&] { return rig.peer.got.size() == 2; }));
        CHECK(rig.peer.got[1].empty());
        rig.peer.say(pattern(4));
        REQUIRE(rig.until([&] { return rig.app.got.size() == 1; }));
        CHECK(rig.done.empty());
        rig.peer.say({});
    }
    SECTION("the peer first") {
        rig.peer.say(pattern(4));
        rig.peer.say({});
        REQUIRE(rig.until([&] { return rig.app.ended; }));
        CHECK(rig.app.got == std::vector<Buffer>{pattern(4)});
        CHECK(rig.done.empty());
        REQUIRE(rig.app.say(pattern(3)));
        REQUIRE(rig.until([&] { return rig.peer.got.size() == 1; }));
        rig.app.end();
    }
    REQUIRE(rig.until([&] { return !rig.done.empty() && rig.app.ended && rig.peer.got.size() == 2; }));
    CHECK(rig.done[0].ending == Ending::orderly);
    CHECK(rig.peer.got[0] == pattern(3));
}

TEST_CASE("a record that is too long ends the session, and nothing of it goes out", "[net][records]") {
    Rig rig(either());
    rig.peer.pipe->start();
    REQUIRE(rig.app.say(pattern(9)));
    REQUIRE(rig.app.say(pattern(65'504)));
    REQUIRE(rig.until([&] { return !rig.done.empty() && !rig.peer.ends.empty(); }));
    CHECK(rig.done[0].ending == Ending::too_long);
    CHECK(rig.peer.got.size() <= 1);  // what the tunnel had taken before
    CHECK(rig.app.ended);
}

TEST_CASE("a peer that does not read stops the application, and nothing is lost", "[net][records]") {
    Rig rig(either());
    std::size_t said = 0;
    std::size_t most_waiting = 0;
    const auto full = [&] {
        const std::size_t before = said;
        while (rig.app.say(pattern(50'000 + said))) ++said;
        most_waiting = std::max(most_waiting, rig.pipe.backlog());
        for (int i = 0; i < 20; ++i) test::run_ready(rig.context);
        return said == before && rig.pipe.backlog() > 0;
    };
    REQUIRE(rig.until_unread(full));
    CHECK(most_waiting <= MessageForwarder::kMostWaiting + 2 * 65'536);
    rig.peer.pipe->start();
    REQUIRE(rig.until([&] { return rig.peer.got.size() == said; }));
    for (std::size_t i = 0; i < said; ++i) CHECK(rig.peer.got[i] == pattern(50'000 + i));
    REQUIRE(rig.app.say(pattern(1)));
    REQUIRE(rig.until([&] { return rig.peer.got.size() == said + 1; }));
}

TEST_CASE("an application that does not read stops the peer, and nothing is lost", "[net][records]") {
    Rig rig(either());
    constexpr std::size_t kCount = 300;
    std::size_t said = 0;
    REQUIRE(rig.until_unread([&] {
        for (; said < kCount && rig.peer.pipe->backlog() == 0; ++said) rig.peer.say(pattern(50'000 + said));
        for (int i = 0; i < 20; ++i) test::run_ready(rig.context);
        return rig.peer.pipe->backlog() > 0 || said == kCount;
    }));
    CHECK(said < kCount);
    REQUIRE(rig.until([&] {
        for (; said < kCount && rig.peer.pipe->backlog() == 0; ++said) rig.peer.say(pattern(50'000 + said));
        return rig.app.got.size() == kCount;
    }));
    for (std::size_t i = 0; i < kCount; ++i) CHECK(rig.app.got[i] == pattern(50'000 + i));
}

TEST_CASE("many small records keep their bounds", "[net][records]") {
    Rig rig(either());
    rig.peer.pipe->start();
    rig.say_many(2'000, 1);
    REQUIRE(rig.until([&] { return rig.peer.got.size() == 2'000; }));
    for (std::size_t i = 0; i < 2'000; ++i) CHECK(rig.peer.got[i] == pattern(1 + i));
}

TEST_CASE("what is no end in order says what it was", "[net][records]") {
    const On carrier = either();
    SECTION("the tunnel ends without an end: a cut, after what came before") {
        Rig rig(carrier);
        rig.peer.say(pattern(10));
        rig.peer.pipe->close();
        REQUIRE(rig.until([&] { return !rig.done.empty(); }));
        CHECK(rig.done[0].ending == Ending::tunnel_cut);
        CHECK(rig.app.got == std::vector<Buffer>{pattern(10)});
        CHECK(rig.app.ended);
    }
    SECTION("a message after the end") {
        Rig rig(carrier);
        rig.peer.say({});
        rig.peer.say(pattern(1));
        REQUIRE(rig.until([&] { return !rig.done.empty(); }));
        CHECK(rig.done[0].ending == Ending::after_end);
        CHECK(rig.app.got.empty());
    }
    SECTION("the peer goes after its end, while the application still sends") {
        Rig rig(carrier);
        rig.peer.say({});
        REQUIRE(rig.until([&] { return rig.app.ended; }));
        rig.peer.pipe->close();
        REQUIRE(rig.until([&] {
            (void)rig.app.say(pattern(2));
            return !rig.done.empty();
        }));
        CHECK(rig.done[0].ending == Ending::tunnel_cut);
    }
    SECTION("the application dies with records unread") {
        Rig rig(carrier);
        rig.peer.pipe->start();
        rig.peer.say(pattern(1));
        for (int i = 0; i < 20; ++i) test::run_ready(rig.context);
        rig.app.socket.close();
        REQUIRE(rig.until_unread([&] { return !rig.done.empty() && !rig.peer.ends.empty(); }));
        CHECK(rig.done[0].ending == Ending::plain_reset);
        CHECK(rig.peer.got.empty());
    }
    SECTION("the application goes after its last words, which are still passed on") {
        Rig rig(carrier);
        rig.peer.pipe->start();
        test::run_ready(rig.context);
        rig.peer.say(pattern(1));  // finds nobody, before the records are read
        for (const std::size_t size : {40'000U, 2U, 3U}) REQUIRE(rig.app.say(pattern(size)));
        rig.app.socket.close();
        REQUIRE(rig.until_unread([&] { return !rig.done.empty() && !rig.peer.ends.empty(); }));
        CHECK(rig.peer.got == std::vector{pattern(40'000), pattern(2), pattern(3)});
        CHECK(rig.done[0].ending == Ending::plain_reset);
        CHECK(rig.done[0].bytes_up == 40'005);
    }
    SECTION("stopped, and stopped again") {
        Rig rig(carrier);
        rig.forwarder->stop(Ending::revoked);
        rig.forwarder->stop(Ending::stopped);
        REQUIRE(rig.done.size() == 1);
        CHECK(rig.done[0].ending == Ending::revoked);
    }
    SECTION("idle, and too old") {
        ForwarderLimits limits;
        limits.idle = 10s;
        Rig rig(carrier, limits);
        rig.forwarder->sweep(std::chrono::steady_clock::now() + 9s);
        CHECK(rig.done.empty());
        rig.forwarder->sweep(std::chrono::steady_clock::now() + 11s);
        REQUIRE(rig.until([&] { return !rig.done.empty(); }));
        CHECK(rig.done[0].ending == Ending::idle);
        CHECK(rig.app.ended);
    }
}

TEST_CASE("a tunnel whose numbers are used up ends, and says so", "[net][records]") {
    Rig rig(On::tcp, {}, ~std::uint64_t{0} - 3);
    rig.peer.pipe->start();
    REQUIRE(rig.until([&] {
        (void)rig.app.say(pattern(5));
        return !rig.done.empty();
    }));
    CHECK(rig.done[0].ending == Ending::numbers_used_up);
}

}  // namespace
}  // namespace curvegate::forward
