#include "io/proxy_header.hpp"

#include "support/loop.hpp"

#include <catch2/catch.hpp>

#include <optional>
#include <string>
#include <vector>

namespace curvegate::io {
namespace {

using namespace std::chrono_literals;
using test::Buffer;
using test::Local;
namespace proxy = wire::proxy;

const proxy::Addresses kClient = {{*IpAddress::parse("192.0.2.9"), 40'414},
                                  {*IpAddress::parse("198.51.100.7"), 443}};
const std::string kLine = "PROXY TCP4 192.0.2.9 198.51.100.7 40414 443\r\n";
constexpr std::string_view kHello("\0\x80 and the packet of a Hello", 28);

Instant in(Duration time) {
    return std::chrono::steady_clock::now() + time;
}
Buffer binary(const std::optional<proxy::Addresses>& addresses = kClient) {
    return proxy::serialise({addresses, "laptop", {}, "web"});
}
Buffer bytes_of(std::string_view text) {
    return test::copy_of(as_bytes(text));
}
Buffer joined(Buffer first, std::string_view then) {
    first.insert(first.end(), then.begin(), then.end());
    return first;
}

/// A front, and our end of its connection.
struct Rig {
    explicit Rig(Duration patience = test::kPatience, bool tcp = true) {
        auto pair = tcp ? test::tcp_pair(context) : test::unix_pair(context);
        front.emplace(Local{std::move(pair.first), {}, false, {}});
        headers.read(std::move(pair.second), in(patience), [this](Result<ProxiedStream> got) {
            ++calls;
            result.emplace(std::move(got));
        });
        CHECK(calls == 0);
        CHECK(headers.waiting() == 1);
    }
    ~Rig() {
        CHECK(calls == 1);
        test::run_ready(context);
        CHECK(headers.waiting() == 0);
    }

    asio::io_context context;
    ProxyHeaders headers;
    std::optional<Local> front;
    std::optional<Result<ProxiedStream>> result;
    int calls = 0;

    [[nodiscard]] bool until_done() {
        return test::run_until(context, [this] { return result.has_value(); });
    }
    [[nodiscard]] std::string reason() {
        REQUIRE(until_done());
        REQUIRE_FALSE(result->has_value());
        // Refused connections are closed.
        CHECK(test::run_until(context, [this] {
            front->read();
            return front->ended || front->broken;
        }));
        return std::string(result->error().what());
    }
    /// What is in the socket behind the header, once `size` bytes are there.
    [[nodiscard]] std::string rest(std::size_t size) {
        Local ours{std::move((**result).stream), {}, false, {}};
        CHECK(test::run_until(context, [&] {
            ours.read();
            return ours.got.size() >= size || ours.ended || ours.broken;
        }));
        return std::string(as_text(ours.got));
    }
};

TEST_CASE("the header is taken from the socket, and not a byte more", "[net][proxy]") {
    const Buffer header = GENERATE(binary(), bytes_of(kLine));
    Rig rig(test::kPatience, GENERATE(true, false));
    rig.front->write(joined(header, kHello));
    REQUIRE(rig.until_done());
    REQUIRE(rig.result->has_value());
    CHECK((**rig.result).addresses == kClient);
    CHECK(rig.rest(kHello.size()) == kHello);
}

TEST_CASE("a header may come byte by byte", "[net][proxy]") {
    const Buffer header = GENERATE(binary(), bytes_of(kLine));
    Rig rig;
    for (std::size_t i = 0; i < header.size(); ++i) {
        CHECK_FALSE(rig.result.has_value());
        rig.front->write(Bytes(header).subspan(i, 1));
        test::run_ready(rig.context);
    }
    REQUIRE(rig.until_done());
    REQUIRE(rig.result->has_value());
    CHECK((**rig.result).addresses == kClient);
    rig.front->write(as_bytes(kHello));
    CHECK(rig.rest(kHello.size()) == kHello);
}

TEST_CASE("half a header keeps nobody busy", "[net][proxy]") {
    Rig rig(300ms);
    rig.front->write(as_bytes(kLine.substr(0, 20)));
    std::size_t turns = 0;
    while (!rig.result) {
        turns += rig.context.run_one_for(50ms);
        if (rig.context.stopped()) rig.context.restart();
        REQUIRE(turns < 20);
    }
    CHECK(rig.reason() == describe(ProxyErrc::timeout));
}

TEST_CASE("a header without addresses is taken, once more follows", "[net][proxy]") {
    const Buffer header = GENERATE(binary(std::nullopt), bytes_of("PROXY UNKNOWN\r\n"));
    Rig rig;
    rig.front->write(header);
    test::run_ready(rig.context);
    CHECK_FALSE(rig.result.has_value());
    rig.front->write(as_bytes(kHello));
    REQUIRE(rig.until_done());
    REQUIRE(rig.result->has_value());
    CHECK_FALSE((**rig.result).addresses.has_value());
    CHECK(rig.rest(kHello.size()) == kHello);
}

TEST_CASE("a front's check of health is no connection and no fault", "[net][proxy]") {
    Rig rig;
    rig.front->write(binary(std::nullopt));
    SECTION("that ends in order") {
        rig.front->end();
        CHECK(rig.reason() == describe(ProxyErrc::only_asked));
    }
    SECTION("that is reset once we have read it") {
        test::run_ready(rig.context);
        rig.front->reset();
        REQUIRE(rig.until_done());
        CHECK(rig.result->error().is(ProxyErrc::only_asked));
    }
}

TEST_CASE("nothing after a header without addresses is no more than nothing", "[net][proxy]") {
    Rig rig(20ms);
    rig.front->write(binary(std::nullopt));
    CHECK(rig.reason() == describe(ProxyErrc::timeout));
}

TEST_CASE("what is no header is refused at once, with the reason", "[net][proxy]") {
    SECTION("a client that came without a front") {
        Rig rig;
        rig.front->write(as_bytes(std::string_view("\0", 1)));
        CHECK(rig.reason() == describe(proxy::Errc::no_header));
    }
    SECTION("nonsense") {
        Rig rig;
        rig.front->write(as_bytes("PROXY TCP4 us them 1 2\r\n"));
        CHECK(rig.reason() == describe(proxy::Errc::malformed));
    }
    SECTION("a line without an end") {
        Rig rig;
        rig.front->write(as_bytes("PROXY UNKNOWN " + std::string(200, 'x')));
        CHECK(rig.reason() == describe(proxy::Errc::too_long));
    }
    SECTION("nothing, for too long") {
        Rig rig(20ms);
        CHECK(rig.reason() == describe(ProxyErrc::timeout));
    }
    SECTION("an end before the header's") {
        Rig rig;
        rig.front->write(as_bytes(kLine.substr(0, kLine.size() - 1)));
        rig.front->end();
        CHECK(rig.reason() == describe(ProxyErrc::closed));
    }
    SECTION("a reset") {
        Rig rig;
        rig.front->reset();
        REQUIRE(rig.until_done());
        CHECK(rig.result->error().is(ProxyErrc::closed));
    }
}

TEST_CASE("a header that comes with the front's end is taken", "[net][proxy]") {
    Rig rig;
    rig.front->write(bytes_of(kLine));
    rig.front->end();
    REQUIRE(rig.until_done());
    REQUIRE(rig.result->has_value());
    CHECK(rig.rest(0).empty());
}

TEST_CASE("so many fronts may wait, and no more", "[net][proxy]") {
    asio::io_context context;
    ProxyHeaders headers(2);
    std::vector<Stream> fronts;
    std::vector<Result<ProxiedStream>> results;
    const auto come = [&] {
        auto [front, ours] = test::unix_pair(context);
        fronts.push_back(std::move(front));
        headers.read(std::move(ours), in(test::kPatience),
                     [&](Result<ProxiedStream> got) { results.push_back(std::move(got)); });
    };
    for (int i = 0; i < 3; ++i) come();
    CHECK(results.empty());
    REQUIRE(test::run_until(context, [&] { return results.size() == 1; }));
    REQUIRE_FALSE(results[0].has_value());
    CHECK(results[0].error().is(ProxyErrc::too_many));
    CHECK(headers.waiting() == 2);

    // One that is read makes room.
    Local first{std::move(fronts[0]), {}, false, {}};
    first.write(bytes_of(kLine));
    REQUIRE(test::run_until(context, [&] { return results.size() == 2 && headers.waiting() == 1; }));
    CHECK(results[1].has_value());
    come();
    test::run_ready(context);
    CHECK(results.size() == 2);
    CHECK(headers.waiting() == 2);
}

TEST_CASE("a header is written as the first bytes", "[net][proxy]") {
    asio::io_context context;
    auto [plain, application] = GENERATE(true, false) ? test::tcp_pair(context) : test::unix_pair(context);
    const proxy::Introduction who = {kClient, "laptop", {}, "web"};
    REQUIRE(write_proxy_header(plain, who).has_value());
    Local reader{std::move(application), {}, false, {}};
    const auto expected = proxy::serialise(who);
    REQUIRE(test::run_until(context, [&] {
        reader.read();
        return reader.got.size() >= expected.size();
    }));
    CHECK(reader.got == expected);
}

TEST_CASE("an application that is gone is told", "[net][proxy]") {
    asio::io_context context;
    auto [plain, application] = test::unix_pair(context);
    application.close();
    const auto written = write_proxy_header(plain, {kClient, {}, {}, {}});
    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().is(ProxyErrc::not_written));
    CHECK(written.error().detail() == "Broken pipe");
}

TEST_CASE("a connection's own addresses", "[net][proxy]") {
    asio::io_context context;
    tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
    tcp::socket client(context);
    client.connect(acceptor.local_endpoint());
    const Stream server(acceptor.accept());
    const IpAddress loopback = *IpAddress::parse("127.0.0.1");
    CHECK(addresses_of(server) == proxy::Addresses{{loopback, client.local_endpoint().port()},
                                                   {loopback, acceptor.local_endpoint().port()}});
    CHECK_FALSE(addresses_of(test::unix_pair(context).first).has_value());
    CHECK_FALSE(addresses_of(Stream(context)).has_value());
}

}  // namespace
}  // namespace curvegate::io
