#include "io/listen.hpp"

#include "io/udp_socket.hpp"
#include "support/loop.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace curvegate::io {
namespace {

constexpr std::string_view kHello = "QvnQ5XlH";
constexpr std::string_view kInitiate = "QvnQ5XlI";
constexpr std::string_view kMessage = "QvnQ5XlM";

constexpr linger kReset{1, 0};  // leaves no TIME-WAIT behind

IpAddress ip(const std::string& text) {
    return *IpAddress::parse(text);
}
ListenPlace place(const std::string& address, std::uint16_t port = 0) {
    return {ip(address), port, "test"};
}

/// A packet of a client as the steering program sees it.
test::Buffer packet(std::string_view magic, std::uint32_t key, std::size_t size = 224) {
    test::Buffer out(size, Byte{0x55});
    Writer(out).put(as_bytes(magic));
    if (size >= 44) Writer(MutableBytes(out).subspan(40)).integer(key);
    return out;
}

/// The sockets of an endpoint, and clients that knock.
struct Endpoint {
    Endpoint(const std::string& address, std::size_t workers) : workers_(workers) {
        auto fds = open_udp_endpoint(place(address), workers);
        REQUIRE(fds.has_value());
        REQUIRE(fds->size() == 2 * workers);
        port = port_of(fds->front().get());
        for (auto& fd : *fds) {
            CHECK(port_of(fd.get()) == port);
            CHECK((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
            CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
            sockets.push_back(std::make_unique<UdpSocket>(context, std::move(fd), Gro::off));
        }
    }
    /// Sends it from a port of its own, and gives the index of the socket that it came to.
    std::size_t knock(const std::string& at, Bytes bytes) {
        UdpSocket client(context, connect_udp(ip(at), port).value(), Gro::off);
        REQUIRE(client.send({}, bytes, bytes.size()) == bytes.size());
        std::optional<std::size_t> found;
        REQUIRE(test::run_until(context, [&] {
            for (std::size_t i = 0; i < sockets.size(); ++i) {
                if (sockets[i]->receive([](const Path&, MutableBytes) {}) != 0) found = i;
            }
            return found.has_value();
        }));
        return *found;
    }

    std::size_t workers_;
    asio::io_context context;
    std::uint16_t port = 0;
    std::vector<std::unique_ptr<UdpSocket>> sockets;
};

TEST_CASE("whoever gets through while the sockets of a port are opened is in the queue of one that stays",
          "[net][listen]") {
    constexpr int kTimes = 200;
    const auto port = port_of(listen_tcp(place("127.0.0.1")).value().get());
    const auto to = endpoint_of(ip("127.0.0.1"), port);
    int lost = 0;
    for (int i = 0; i < kTimes; ++i) {
        os::UniqueFd client;
        std::jthread knocking([&](const std::stop_token& stop) {
            while (!client && !stop.stop_requested()) {
                os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                if (::connect(fd.get(), to.data(), static_cast<socklen_t>(to.size())) == 0)
                    client = std::move(fd);
            }
        });
        const auto sockets = listen_tcp(place("127.0.0.1", port), 2);
        REQUIRE(sockets.has_value());
        knocking.join();  // somebody listens, so it gets through
        const bool waits = std::ranges::any_of(*sockets, [](const os::UniqueFd& fd) {
            return os::UniqueFd(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC)).get() >= 0;
        });
        lost += waits ? 0 : 1;
        ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &kReset, sizeof kReset);
    }
    CHECK(lost == 0);
}

TEST_CASE("packets of one client come to one worker, wherever they come from", "[net][listen]") {
    struct Case {
        std::string listens, asked;
    };
    const std::vector<Case> cases = {{"127.0.0.1", "127.0.0.1"},
                                     {"::1", "::1"},
                                     {"::", "127.0.0.1"},
                                     {"::", "::1"},
                                     {"0.0.0.0", "127.0.0.2"}};
    for (const auto& [listens, asked] : cases) {
        for (const std::size_t workers : {1U, 2U, 3U}) {
            INFO(listens << " asked at " << asked << ", workers: " << workers);
            Endpoint endpoint(listens, workers);
            for (std::uint32_t key = 0; key < 12; ++key) {
                const std::uint32_t word = key * 0x01234567U;
                const auto home = endpoint.knock(asked, packet(kInitiate, word, 560));
                CHECK(home < workers);
                for (const std::size_t size : {112U, 1'184U})
                    CHECK(endpoint.knock(asked, packet(kMessage, word, size)) == home);
                for (int i = 0; i < 3; ++i)
                    CHECK(endpoint.knock(asked, packet(kHello, word)) == workers + home);
            }
        }
    }
}

TEST_CASE("clients spread evenly over the workers", "[net][listen]") {
    for (const std::size_t workers : {2U, 3U}) {
        Endpoint endpoint("127.0.0.1", workers);
        std::map<std::size_t, int> clients;
        constexpr int kClients = 600;
        test::SeededRandom random(7);
        for (int i = 0; i < kClients; ++i) {
            const auto key = static_cast<std::uint32_t>(random.next());
            ++clients[endpoint.knock("127.0.0.1", packet(kHello, key))];
        }
        CHECK(clients.size() == workers);
        for (const auto& [index, count] : clients) {
            CHECK(index >= workers);
            const auto fair = kClients / static_cast<int>(workers);
            CHECK(count > fair / 2);
            CHECK(count < fair * 2);
        }
    }
}

TEST_CASE("which worker a client comes to differs from one start to the next", "[net][listen]") {
    std::set<std::vector<std::size_t>> seen;
    for (int start = 0; start < 4; ++start) {
        Endpoint endpoint("127.0.0.1", 3);
        std::vector<std::size_t> homes;
        for (std::uint32_t key = 1; key <= 24; ++key)
            homes.push_back(endpoint.knock("127.0.0.1", packet(kMessage, key * 0x10203U)));
        seen.insert(std::move(homes));
    }
    CHECK(seen.size() > 2);
}

TEST_CASE("what is too short for a packet comes to the first socket", "[net][listen]") {
    Endpoint endpoint("::", 3);
    for (const std::size_t size : {8U, 40U, 43U}) {
        CHECK(endpoint.knock("127.0.0.1", packet(kHello, 1, size)) == 0);
        CHECK(endpoint.knock("::1", packet(kHello, 1, size)) == 0);
    }
    CHECK(endpoint.knock("127.0.0.1", as_bytes("x")) == 0);
}

TEST_CASE("a whole train goes where its client's packets go", "[net][listen]") {
    Endpoint endpoint("127.0.0.1", 2);
    for (std::uint32_t key = 0; key < 8; ++key) {
        const auto home = endpoint.knock("127.0.0.1", packet(kMessage, key * 0x9876543U, 1'184));
        test::Buffer train;
        for (int i = 0; i < 10; ++i) {
            const auto one = packet(kMessage, key * 0x9876543U, 1'184);
            train.insert(train.end(), one.begin(), one.end());
        }
        UdpSocket client(endpoint.context, connect_udp(ip("127.0.0.1"), endpoint.port).value(), Gro::off);
        REQUIRE(client.send({}, train, 1'184) == train.size());
        std::size_t came = 0;
        CHECK(test::run_until(endpoint.context, [&] {
            came += endpoint.sockets[home]->receive([](const Path&, MutableBytes) {});
            return came == 10;
        }));
    }
}

TEST_CASE("plain UDP sockets keep one source with one worker", "[net][listen]") {
    auto fds = open_udp(place("127.0.0.1"), 3).value();
    REQUIRE(fds.size() == 3);
    const auto port = port_of(fds.front().get());
    asio::io_context context;
    std::vector<std::unique_ptr<UdpSocket>> sockets;
    for (auto& fd : fds) sockets.push_back(std::make_unique<UdpSocket>(context, std::move(fd), Gro::off));
    std::set<std::size_t> used;
    for (int source = 0; source < 40; ++source) {
        UdpSocket client(context, connect_udp(ip("127.0.0.1"), port).value(), Gro::off);
        // Of contents that an endpoint would steer apart.
        for (std::uint32_t key = 0; key < 5; ++key)
            REQUIRE(client.send({}, packet(key % 2 == 0 ? kHello : kMessage, key * 0x1234567U), 224) == 224);
        std::set<std::size_t> homes;
        std::size_t came = 0;
        REQUIRE(test::run_until(context, [&] {
            for (std::size_t i = 0; i < sockets.size(); ++i) {
                const auto count = sockets[i]->receive([](const Path&, MutableBytes) {});
                if (count != 0) homes.insert(i);
                came += count;
            }
            return came == 5;
        }));
        CHECK(homes.size() == 1);
        used.merge(homes);
    }
    CHECK(used.size() == 3);
}

TEST_CASE("a port that somebody has is not shared with him, even if he would", "[net][listen]") {
    const auto first_udp = open_udp_endpoint(place("127.0.0.1"), 2).value();
    const auto udp_port = port_of(first_udp.front().get());
    const auto first_tcp = listen_tcp(place("127.0.0.1"), 2).value();
    const auto tcp_port = port_of(first_tcp.front().get());
    for (const std::size_t workers : {1U, 2U}) {
        for (const auto& refused : {open_udp_endpoint(place("127.0.0.1", udp_port), workers),
                                    open_udp(place("127.0.0.1", udp_port), workers),
                                    listen_tcp(place("127.0.0.1", tcp_port), workers)}) {
            REQUIRE_FALSE(refused.has_value());
            CHECK(refused.error().text() ==
                  "test: Address already in use (another program has it: ss -tulnp shows which)");
        }
    }
    CHECK_FALSE(listen_tcp(place("127.0.0.1", tcp_port)).has_value());
    // The two kinds do not meet.
    CHECK(open_udp(place("127.0.0.1", tcp_port), 1).has_value());
}

TEST_CASE("an address that is not here is told of", "[net][listen]") {
    const auto refused = open_udp_endpoint(place("192.0.2.1"), 1);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().text() == "test: Cannot assign requested address");
}

TEST_CASE("an address that comes late can be listened on before", "[net][listen]") {
    for (const std::string late : {"192.0.2.1", "2001:db8::1"}) {
        CAPTURE(late);
        CHECK_FALSE(is_here(ip(late)));
        ListenPlace where = place(late);
        where.absent = Absent::wait;
        for (const std::size_t workers : {1U, 2U}) {
            CHECK(listen_tcp(where, workers).has_value());
            CHECK(open_udp(where, workers).has_value());
            CHECK(open_udp_endpoint(where, workers).has_value());
        }
    }
    CHECK(is_here(ip("127.0.0.1")));
    CHECK(is_here(ip("0.0.0.0")));
}

TEST_CASE("TCP listeners share one port, also one that the kernel chose", "[net][listen]") {
    for (const std::string address : {"127.0.0.1", "::1", "::"}) {
        for (const std::size_t workers : {1U, 3U}) {
            INFO(address << ", workers: " << workers);
            auto fds = listen_tcp(place(address), workers).value();
            REQUIRE(fds.size() == workers);
            const auto port = port_of(fds.front().get());
            CHECK(port != 0);
            for (const auto& fd : fds) CHECK(port_of(fd.get()) == port);
            asio::io_context context;
            tcp::socket client(context);
            error_code failed;
            client.connect(endpoint_of(ip(address == "::" ? "127.0.0.1" : address), port), failed);
            CHECK_FALSE(failed);
        }
    }
}

TEST_CASE("a connected UDP socket hears its peer only", "[net][listen]") {
    asio::io_context context;
    UdpSocket server(context, std::move(open_udp(place("127.0.0.1"), 1).value().front()), Gro::off);
    UdpSocket stranger(context, std::move(open_udp(place("127.0.0.1"), 1).value().front()), Gro::off);
    UdpSocket client(context, connect_udp(ip("127.0.0.1"), server.local_endpoint().port).value(), Gro::off);
    const Path path{client.local_endpoint(), {}};
    CHECK(stranger.send(path, as_bytes("stranger"), 8) == 8);
    CHECK(server.send(path, as_bytes("server"), 6) == 6);
    std::vector<std::string> heard;
    REQUIRE(test::run_until(context, [&] {
        (void)client.receive([&](const Path&, MutableBytes bytes) { heard.emplace_back(as_text(bytes)); });
        return !heard.empty();
    }));
    CHECK(heard == std::vector<std::string>{"server"});
}

}  // namespace
}  // namespace curvegate::io
