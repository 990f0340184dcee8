#include "io/dial.hpp"

#include "io/clock.hpp"
#include "io/dial_udp.hpp"
#include "io/host.hpp"
#include "serve/try_targets.hpp"
#include "support/descriptors.hpp"
#include "support/listening.hpp"
#include "support/loop.hpp"
#include "support/names.hpp"
#include "support/secrets.hpp"
#include "tunnel/curve_tun/dial.hpp"
#include "tunnel/curvecp/dial.hpp"

#include <boost/asio/post.hpp>

#include <catch2/catch.hpp>

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>

namespace curvegate::io {
namespace {

using namespace std::chrono_literals;
using test::ip;
using test::Listening;
using test::Names;
using test::Silent;

struct Dial {
    asio::io_context context;
    asio::steady_timer reactor{context};  // Asio opens its own descriptors with the first one
    Names names;
    std::optional<Result<Stream>> result;

    void begin(const Target& target, Duration limit = 10min) {
        result.reset();
        dial(context, names, target, now() + limit,
             [&](Result<Stream> stream) { result.emplace(std::move(stream)); });
        CHECK_FALSE(result.has_value());
    }
    Result<Stream>& finish() {
        REQUIRE(test::run_until(context, [&] { return result.has_value(); }));
        return *result;
    }
    /// Whom it is connected to.
    std::string answered() {
        auto& stream = finish();
        REQUIRE(stream.has_value());
        tcp::endpoint peer;
        auto size = static_cast<socklen_t>(peer.capacity());
        REQUIRE(::getpeername(stream->native_handle(), peer.data(), &size) == 0);
        peer.resize(size);
        return address_of(peer).text();
    }
};

TEST_CASE("a silent address does not hold up a connection, and the good one comes first after that",
          "[net][dial]") {
    const Silent silent("127.0.0.2");
    const Listening good("127.0.0.1", silent.port());
    Dial rig;
    const Target target{"two.example", silent.port(), {}};
    rig.names.known["two.example"] = {ip("127.0.0.2"), ip("127.0.0.1")};
    rig.begin(target);
    CHECK(rig.answered() == "127.0.0.1");
    const auto order = rig.names.good()->order(target.text(), rig.names.known["two.example"], now());
    CHECK(order.front() == ip("127.0.0.1"));
    rig.begin(target);
    CHECK(rig.answered() == "127.0.0.1");
}

TEST_CASE("an address that takes connections and shakes no hands is not the good one of a tunnel",
          "[net][dial]") {
    const Listening mute("127.0.0.1");
    Dial rig;
    const Target target{"two.example", mute.port(), {}};
    const std::vector<ScopedIp> both = {ip("127.0.0.2"), ip("127.0.0.1")};  // the first one refuses
    rig.names.known["two.example"] = both;
    vault_client::VaultClient vault(rig.context, 1s, vault_client::VaultClient::Detached::wait);
    test::SeededRandom random{1};
    const tunnel::HandshakeTools tools{&vault, nullptr, &test::pool(), &random, nullptr, {}};
    const auto server = *public_key_of(test::secret_number<crypto::EphemeralSecret>(9));
    std::optional<Error> told;
    tunnel::curve_tun::dial_tunnel(
        rig.context, rig.names, tools, {target, "server", {server}}, now() + 200ms,
        [&](Result<tunnel::curve_tun::Established> result) { told = result.error(); });
    REQUIRE(test::run_until(rig.context, [&] { return told.has_value(); }));
    CHECK(told->is(DialErrc::wrong_key));
    CHECK(rig.names.good()->order(target.text(), both, now()).front() == both.front());
}

TEST_CASE("no key of a silent CurveCP server is tried beyond the deadline of its dial", "[net][dial]") {
    asio::io_context context;
    const udp::socket silent(context, {asio::ip::address_v4::loopback(), 0});
    Names names;
    vault_client::VaultClient vault(context, 1s, vault_client::VaultClient::Detached::wait);
    test::SeededRandom random{1};
    const tunnel::HandshakeTools tools{&vault, nullptr, &test::pool(), &random, nullptr, {}};
    tunnel::curvecp::StreamTarget target{
        {"127.0.0.1", silent.local_endpoint().port(), {}}, "server", {}, {}, {}, 60s, {}};
    for (const Byte number : {Byte{9}, Byte{10}})
        target.keys.push_back(*public_key_of(test::secret_number<crypto::EphemeralSecret>(number)));
    const Instant began = now();
    target.confirm_by = began + 1h;  // other targets come after this one
    std::optional<Error> told;
    tunnel::curvecp::dial_stream(
        context, names, tools, target, began + 200ms,
        [&](Result<tunnel::curvecp::DialedStream> result) { told = result.error(); });
    REQUIRE(test::run_until(context, [&] { return told.has_value(); }));
    CHECK(told->is(DialErrc::no_cookie));
    CHECK(now() - began < 1s);  // the least time of a try is longer
}

TEST_CASE("a slow address is not given up when the next one is tried", "[net][dial]") {
    const Silent silent("127.0.0.2");
    Dial rig;
    rig.names.known["slow.example"] = {ip("127.0.0.2"), ip("127.0.0.3")};
    rig.begin({"slow.example", silent.port(), {}}, 700ms);
    const auto& result = rig.finish();  // 127.0.0.3 refuses at once: the first one is waited for
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().is(DialErrc::timeout));
}

TEST_CASE("addresses that refuse are told of when the last one has", "[net][dial]") {
    Dial rig;
    const Target target{"closed.example", Listening("127.0.0.1").port(), {}};
    rig.names.known["closed.example"] = {ip("127.0.0.2"), ip("127.0.0.3"), ip("127.0.0.1")};
    rig.begin(target);
    const auto& result = rig.finish();
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().is(DialErrc::refused));
    CHECK(result.error().detail() == target.text() + ": Connection refused");
    CHECK(serve::is_targets_fault(result.error()));
}

TEST_CASE("a name that does not resolve is told of", "[net][dial]") {
    Dial rig;
    rig.begin({"nowhere.example", 1, {}});
    REQUIRE_FALSE(rig.finish().has_value());
    CHECK(rig.result->error().text() == "nowhere.example: name does not resolve");
}

TEST_CASE("localhost and addresses need no resolver", "[net][dial]") {
    const Listening here("127.0.0.1");
    for (const std::string host : {"localhost", "LocalHost", "localhost.", "app.localhost", "127.0.0.1"}) {
        CAPTURE(host);
        Dial rig;  // its resolver knows no name
        rig.begin({host, here.port(), {}});
        CHECK(rig.answered() == "127.0.0.1");
    }
    Dial rig;
    rig.begin({"notlocalhost", here.port(), {}});
    CHECK_FALSE(rig.finish().has_value());
}

TEST_CASE("the interface of a link-local address is found by name or number", "[net][dial]") {
    const auto lo = ::if_nametoindex("lo");
    REQUIRE(lo != 0);
    CHECK(literal_address("fe80::1%lo")->value() == ScopedIp(ip("fe80::1").ip, lo));
    CHECK(literal_address("fe80::1%" + std::to_string(lo))->value().scope == lo);
    CHECK(literal_address("fe80::1%nosuch0")->error().is(DialErrc::no_interface));
    CHECK(literal_address("fe80::1%4000000000")->error().is(DialErrc::no_interface));
    CHECK(literal_address("::1")->value().scope == 0);
    CHECK_FALSE(literal_address("server.example").has_value());
    CHECK(endpoint_of(literal_address("fe80::1%lo")->value(), 1).address().to_v6().scope_id() == lo);
    Dial rig;
    rig.begin({"fe80::1%nosuch0", 80, {}});
    REQUIRE_FALSE(rig.finish().has_value());
    CHECK(rig.result->error().text() ==
          "fe80::1%nosuch0: this machine has no network interface of that name");
}

TEST_CASE("want of descriptors is our own, and no target's fault", "[net][dial]") {
    const Listening here("127.0.0.1");
    Dial rig;
    rig.names.known["two.example"] = {ip("127.0.0.1"), ip("127.0.0.2")};
    const Error why = [&] {
        if (GENERATE(true, false)) {
            const Target target =
                GENERATE(Target{"127.0.0.1", 0, {}}, Target{"two.example", 0, {}}, Target{{}, 0, "/nowhere"});
            return test::without_descriptors([&] {
                rig.begin({target.host, here.port(), target.unix_path});
                return rig.finish().error();
            });
        }
        std::optional<Result<os::UniqueFd>> result;
        const bool came = test::without_descriptors([&] {
            dial_udp(rig.context, rig.names, {"two.example", here.port(), {}}, now() + 10min,
                     [&](Result<os::UniqueFd> socket) { result.emplace(std::move(socket)); });
            return test::run_until(rig.context, [&] { return result.has_value(); });
        });
        REQUIRE(came);
        return result->error();
    }();
    INFO(why.text());
    CHECK(why.is(DialErrc::own_lack));
    CHECK(serve::is_final(why));
    CHECK_FALSE(serve::is_targets_fault(why));
}

TEST_CASE("a target is not blamed, nor made to rest, for our own want of descriptors",
          "[net][dial][targets]") {
    asio::io_context context;
    auto spec = std::make_shared<serve::ServiceSpec>();
    for (const std::string name : {"a", "b"}) spec->lead_to({{name, 1, {}}, {}, name});
    std::size_t tried = 0;
    std::optional<Error> told;
    serve::try_targets<int>(
        spec, now() + 1min,
        [&](const serve::ServiceTarget&, Instant, auto done) {
            ++tried;
            asio::post(context, [done = std::move(done)]() mutable { done(fail(DialErrc::own_lack)); });
        },
        [&](const Result<int>& result, const serve::ServiceTarget*) { told = result.error(); });
    REQUIRE(test::run_until(context, [&] { return told.has_value(); }));
    CHECK(told->is(DialErrc::own_lack));
    CHECK(tried == 1);
    CHECK(spec->counters->targets.state("a", now()).up);
}

}  // namespace
}  // namespace curvegate::io
