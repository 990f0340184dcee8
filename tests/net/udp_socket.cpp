#include "io/udp_socket.hpp"

#include "io/listen.hpp"
#include "support/loop.hpp"

#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace curvegate::io {
namespace {

using test::Buffer;
using test::pattern;
using test::run_until;

IpAddress ip(const std::string& text) {
    return *IpAddress::parse(text);
}

os::UniqueFd bound(const std::string& address) {
    return std::move(open_udp({ip(address), 0, "test"}, 1).value().front());
}

IpEndpoint endpoint(const std::string& address, std::uint16_t port) {
    return {ip(address), port};
}

/// Datagrams as they came.
struct Inbox {
    std::vector<Path> paths;
    std::vector<Buffer> datagrams;

    UdpSocket::Handler handler() {
        return [this](const Path& from, MutableBytes bytes) {
            paths.push_back(from);
            datagrams.emplace_back(bytes.begin(), bytes.end());
            std::ranges::fill(bytes, Byte{0xee});  // it may, and disturbs nobody
        };
    }
    [[nodiscard]] Buffer joined() const {
        Buffer out;
        for (const auto& datagram : datagrams) out.insert(out.end(), datagram.begin(), datagram.end());
        return out;
    }
};

/// Reads until `count` datagrams have come.
bool collect(asio::io_context& context, UdpSocket& socket, Inbox& inbox, std::size_t count) {
    return run_until(context, [&] {
        while (socket.receive(inbox.handler()) != 0) {
        }
        return inbox.datagrams.size() >= count;
    });
}

/// A socket bound to `address`, and a client that is connected to it.
struct Pair {
    explicit Pair(Gro gro, const std::string& address = "127.0.0.1")
        : server(context, bound(address), gro),
          client(context, connect_udp(ip(address), server.local_endpoint().port).value(), gro) {}

    asio::io_context context;
    UdpSocket server;
    UdpSocket client;
    Inbox inbox;
};

TEST_CASE("datagrams go there and back over IPv4 and IPv6", "[net][udp]") {
    for (const std::string address : {"127.0.0.1", "::1"}) {
        for (const Gro gro : {Gro::off, Gro::on}) {
            INFO(address);
            Pair pair(gro, address);
            CHECK(pair.client.send({}, as_bytes("there"), 5) == 5);
            REQUIRE(collect(pair.context, pair.server, pair.inbox, 1));
            const Path& path = pair.inbox.paths[0];
            CHECK(path.peer == pair.client.local_endpoint());
            CHECK(path.own == ip(address));
            CHECK(as_text(pair.inbox.datagrams[0]) == "there");

            CHECK(pair.server.send(path, as_bytes("and back"), 8) == 8);
            Inbox answers;
            REQUIRE(collect(pair.context, pair.client, answers, 1));
            CHECK(as_text(answers.datagrams[0]) == "and back");
            CHECK(answers.paths[0].peer == pair.server.local_endpoint());
        }
    }
}

TEST_CASE("a dual-stack socket shows IPv4 peers as such, and answers them", "[net][udp]") {
    asio::io_context context;
    UdpSocket server(context, bound("::"), Gro::on);
    const auto port = server.local_endpoint().port;
    for (const std::string address : {"127.0.0.1", "127.0.0.2", "::1"}) {
        INFO(address);
        UdpSocket client(context, connect_udp(ip(address), port).value(), Gro::on);
        CHECK(client.send({}, as_bytes("hello"), 5) == 5);
        Inbox inbox;
        REQUIRE(collect(context, server, inbox, 1));
        CHECK(inbox.paths[0].peer.address.ip.is_v4() == ip(address).is_v4());
        CHECK(inbox.paths[0].peer == client.local_endpoint());
        CHECK(inbox.paths[0].own == ip(address));
        CHECK(inbox.paths[0].peer.address.ip.is_v4() == ip(address).is_v4());

        // A client that is connected hears nobody but the address that it asked.
        const Buffer train = pattern(5'000);
        CHECK(server.send(inbox.paths[0], train, 1'100) == train.size());
        Inbox answers;
        REQUIRE(collect(context, client, answers, 5));
        CHECK(test::same(answers.joined(), train));
        CHECK(answers.paths[0].peer == endpoint(address, port));
        if (address == "127.0.0.2") continue;
        // Of no address in particular: the kernel chooses.
        CHECK(server.send({inbox.paths[0].peer, {}}, as_bytes("x"), 1) == 1);
        REQUIRE(collect(context, client, answers, 6));
    }
}

TEST_CASE("an answer leaves from the address that was asked", "[net][udp]") {
    asio::io_context context;
    UdpSocket server(context, bound("0.0.0.0"), Gro::off);
    const auto port = server.local_endpoint().port;
    UdpSocket client(context, bound("127.0.0.1"), Gro::off);
    CHECK(client.send({endpoint("127.0.0.2", port), {}}, as_bytes("x"), 1) == 1);
    Inbox inbox;
    REQUIRE(collect(context, server, inbox, 1));
    CHECK(inbox.paths[0].own == ip("127.0.0.2"));
    CHECK(server.send(inbox.paths[0], as_bytes("yy"), 1) == 2);
    Inbox answers;
    REQUIRE(collect(context, client, answers, 2));
    CHECK(answers.paths[0].peer == endpoint("127.0.0.2", port));
    CHECK(answers.paths[1].peer == endpoint("127.0.0.2", port));
}

TEST_CASE("a train arrives as its segments, in order, the last one shorter", "[net][udp]") {
    struct Train {
        std::size_t size, segment, count;
    };
    const std::array trains = {
        Train{1'184, 1'184, 1}, Train{1'185, 1'184, 2}, Train{10'000, 1'184, 9},  Train{65'000, 1'232, 53},
        Train{6'400, 80, 80},   Train{1'500, 1'499, 2}, Train{200, 1, 200},       Train{60'000, 30'000, 2},
        Train{100, 1'000, 1},   Train{61'440, 960, 64}, Train{64'960, 1'015, 64},
    };
    for (const Gro sender : {Gro::off, Gro::on}) {
        for (const auto& [size, segment, count] : trains) {
            INFO(size << " bytes in segments of " << segment);
            Pair pair(Gro::on);
            UdpSocket from(pair.context, bound("127.0.0.1"), sender);
            const Path to{pair.server.local_endpoint(), ip("127.0.0.1")};
            const Buffer train = pattern(size);
            CHECK(from.send(to, train, segment) == size);
            REQUIRE(collect(pair.context, pair.server, pair.inbox, count));
            CHECK(pair.inbox.datagrams.size() == count);
            CHECK(test::same(pair.inbox.joined(), train));
            for (std::size_t i = 0; i + 1 < pair.inbox.datagrams.size(); ++i)
                CHECK(pair.inbox.datagrams[i].size() == segment);
            CHECK(pair.inbox.paths.back() == Path{from.local_endpoint(), ip("127.0.0.1")});
        }
    }
}

TEST_CASE("a receiver without GRO gets a train cut apart by the kernel", "[net][udp]") {
    Pair pair(Gro::off);
    const Buffer train = pattern(50'000);
    CHECK(pair.client.send({}, train, 500) == train.size());
    REQUIRE(collect(pair.context, pair.server, pair.inbox, 100));
    CHECK(test::same(pair.inbox.joined(), train));
}

TEST_CASE("one batch ends after some hundred datagrams, the rest waits", "[net][udp]") {
    struct Load {
        Gro gro;
        int trains;
        std::size_t least, most;
    };
    // With GRO a batch is of trains, even if only one of them has come yet.
    for (const auto& [gro, trains, least, most] : {Load{Gro::off, 6, 1, 64}, Load{Gro::on, 40, 20, 512}}) {
        Pair pair(gro);
        for (int i = 0; i < trains; ++i) CHECK(pair.client.send({}, pattern(1'280), 64) == 1'280);
        REQUIRE(run_until(pair.context, [&] { return pair.server.receive(pair.inbox.handler()) != 0; }));
        CHECK(pair.inbox.datagrams.size() >= least);
        CHECK(pair.inbox.datagrams.size() <= most);
        CHECK(collect(pair.context, pair.server, pair.inbox, static_cast<std::size_t>(trains) * 20));
    }
}

TEST_CASE("datagrams of any size, empty ones too, pass a socket with GRO", "[net][udp]") {
    Pair pair(Gro::on);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{9'000}, std::size_t{65'507}}) {
        INFO(size);
        const Buffer datagram = pattern(size);
        CHECK(pair.client.send({}, datagram, size) == size);
        Inbox inbox;
        REQUIRE(collect(pair.context, pair.server, inbox, 1));
        CHECK(test::same(inbox.datagrams[0], datagram));
    }
}

TEST_CASE("a socket without GRO drops what is longer than its buffers, and nothing else", "[net][udp]") {
    Pair pair(Gro::off);
    for (const std::size_t size : {2'049U, 2'048U, 9'000U, 3U})
        CHECK(pair.client.send({}, pattern(size), size) == size);
    REQUIRE(collect(pair.context, pair.server, pair.inbox, 2));
    CHECK(test::same(pair.inbox.datagrams[0], pattern(2'048)));
    CHECK(pair.inbox.datagrams[1] == pattern(3));
}

TEST_CASE("what no path can carry is lost and counts as taken", "[net][udp]") {
    Pair pair(Gro::on);
    const Buffer giant = pattern(65'508);
    CHECK(pair.client.send({}, giant, giant.size()) == giant.size());
    CHECK(pair.client.last_error() == boost::system::errc::message_size);
    // IPv6 from an IPv4 socket.
    UdpSocket v4(pair.context, bound("127.0.0.1"), Gro::off);
    CHECK(v4.send({endpoint("::1", 9), {}}, pattern(100), 10) == 100);
    CHECK(v4.last_error());
    // An address that is not ours, for one datagram and for a train.
    CHECK(v4.send({pair.server.local_endpoint(), ip("192.0.2.1")}, pattern(100), 100) == 100);
    CHECK(v4.send({pair.server.local_endpoint(), ip("192.0.2.1")}, pattern(100), 10) == 100);
    CHECK(v4.send({pair.server.local_endpoint(), ip("127.0.0.1")}, pattern(100), 10) == 100);
    REQUIRE(collect(pair.context, pair.server, pair.inbox, 10));
    CHECK(test::same(pair.inbox.joined(), pattern(100)));
}

TEST_CASE("where the path cannot segment, the datagrams go one by one", "[net][udp]") {
    Pair pair(Gro::on);
    UdpSocket from(pair.context, bound("127.0.0.1"), Gro::off);
    const Path to{pair.server.local_endpoint(), ip("127.0.0.1")};
    const Buffer train = pattern(20'000);
    for (const int without : {1, 0}) {  // only as long as the path is so
        // What makes no checksums cannot segment: EINVAL.
        REQUIRE(::setsockopt(from.native_handle(), SOL_SOCKET, SO_NO_CHECK, &without, sizeof without) == 0);
        CHECK(from.send(to, train, 600) == train.size());
        Inbox inbox;
        REQUIRE(collect(pair.context, pair.server, inbox, 34));
        CHECK(test::same(inbox.joined(), train));
        CHECK(inbox.paths[0].peer == from.local_endpoint());
    }
    CHECK_FALSE(from.last_error());
}

/// Both ends of a pair of unix datagram sockets: no segments there (EOPNOTSUPP), and a queue that fills up.
struct UnixPair {
    UnixPair() {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
            throw std::runtime_error("socketpair");
        near.emplace(context, os::UniqueFd(ends[0]), Gro::off);
        far.emplace(context, os::UniqueFd(ends[1]), Gro::off);
        const int few = 1;  // bytes; the kernel gives some thousand
        if (::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &few, sizeof few) != 0)
            throw std::runtime_error("SO_SNDBUF");
    }
    asio::io_context context;
    std::optional<UdpSocket> near;
    std::optional<UdpSocket> far;
};

TEST_CASE("a full socket takes whole segments, and the tail when it has room again", "[net][udp]") {
    UnixPair pair;
    const Buffer all = pattern(100 * 1'000 + 300);
    Bytes rest = all;
    Inbox inbox;
    int times_full = 0;
    while (!rest.empty()) {
        const std::size_t taken = pair.near->send({}, rest, 1'000);
        CHECK((taken % 1'000 == 0 || taken == rest.size()));
        rest = rest.subspan(taken);
        if (rest.empty()) break;
        ++times_full;
        bool writable = false;
        pair.near->wait_writable([&] { writable = true; });
        test::run_ready(pair.context);
        CHECK_FALSE(writable);
        REQUIRE(run_until(pair.context, [&] {
            (void)pair.far->receive(inbox.handler());
            return writable;
        }));
    }
    CHECK(times_full > 1);
    REQUIRE(collect(pair.context, *pair.far, inbox, 101));
    CHECK(test::same(inbox.joined(), all));
    CHECK_FALSE(pair.near->last_error());

    while (pair.near->send({}, as_bytes("x"), 1) == 1) {
    }
    CHECK(pair.near->send({}, as_bytes("x"), 1) == 0);
}

TEST_CASE("a refused datagram shows as last_error, and takes no other with it", "[net][udp]") {
    Pair pair(Gro::off);
    const auto port = pair.server.local_endpoint().port;
    pair.server.close();
    CHECK(pair.client.send({}, as_bytes("anybody?"), 8) == 8);
    bool readable = false;
    pair.client.wait_readable([&] { readable = true; });
    REQUIRE(run_until(pair.context, [&] { return readable; }));
    CHECK(pair.client.receive(pair.inbox.handler()) == 0);
    CHECK(pair.client.last_error() == boost::system::errc::connection_refused);

    // The next one is refused too; then somebody is there again, and nothing of what follows is lost.
    CHECK(pair.client.send({}, as_bytes("anybody?"), 8) == 8);
    UdpSocket again(pair.context, std::move(open_udp({ip("127.0.0.1"), port, "test"}, 1).value().front()),
                    Gro::on);
    CHECK(pair.client.send({}, as_bytes("hello"), 5) == 5);
    REQUIRE(collect(pair.context, again, pair.inbox, 1));
    CHECK(as_text(pair.inbox.datagrams[0]) == "hello");
}

TEST_CASE("waiting for a datagram ends when one comes, and quietly when the socket is closed", "[net][udp]") {
    Pair pair(Gro::off);
    int readable = 0;
    pair.server.wait_readable([&] { ++readable; });
    test::run_ready(pair.context);
    CHECK(readable == 0);
    CHECK(pair.client.send({}, as_bytes("x"), 1) == 1);
    REQUIRE(run_until(pair.context, [&] { return readable == 1; }));
    // It was not read: still readable.
    pair.server.wait_readable([&] { ++readable; });
    REQUIRE(run_until(pair.context, [&] { return readable == 2; }));
    CHECK(collect(pair.context, pair.server, pair.inbox, 1));
    pair.server.wait_readable([&] { ++readable; });
    pair.server.close();
    test::run_ready(pair.context);
    CHECK(readable == 2);
    CHECK_FALSE(pair.server.is_open());
    CHECK(pair.server.receive(pair.inbox.handler()) == 0);
    CHECK(pair.server.send({}, as_bytes("lost"), 4) == 4);
}

TEST_CASE("a handler may read another socket, and close its own", "[net][udp]") {
    Pair outer(Gro::on);
    Pair inner(Gro::on);
    for (int i = 0; i < 4; ++i) {
        CHECK(outer.client.send({}, pattern(3'000), 1'000) == 3'000);
        CHECK(inner.client.send({}, as_bytes("inner"), 5) == 5);
    }
    Buffer seen;
    std::size_t datagrams = 0;
    REQUIRE(run_until(outer.context, [&] {
        (void)outer.server.receive([&](const Path&, MutableBytes bytes) {
            REQUIRE(collect(inner.context, inner.server, inner.inbox, 4));
            seen.insert(seen.end(), bytes.begin(), bytes.end());
            if (++datagrams == 2) outer.server.close();
        });
        return !outer.server.is_open();
    }));
    CHECK(datagrams == 2);
    const Buffer train = pattern(3'000);
    CHECK(std::ranges::equal(seen, Bytes(train).first(2'000)));
}

TEST_CASE("what is no socket makes one that is not open", "[net][udp]") {
    asio::io_context context;
    const UdpSocket socket(context, os::UniqueFd(), Gro::on);
    CHECK_FALSE(socket.is_open());
    CHECK(socket.last_error());
}

TEST_CASE("an endpoint is the same in our form and in Asio's", "[net][udp]") {
    for (const std::string address : {"192.0.2.1", "2001:db8::1"}) {
        CHECK(ip_endpoint_of(endpoint_of(ip(address), 53)) == endpoint(address, 53));
    }
    CHECK(ip_endpoint_of(endpoint_of({ip("fe80::1"), 7}, 53)).address == ScopedIp(ip("fe80::1"), 7));
    CHECK(endpoint("192.0.2.1", 53).text() == "192.0.2.1:53");
    CHECK(endpoint("2001:db8::1", 53).text() == "[2001:db8::1]:53");
}

}  // namespace
}  // namespace curvegate::io
