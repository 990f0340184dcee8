#include "config/address.hpp"
#include "tests/unit/config_support.hpp"

namespace curvegate::config {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

const std::string kWeb = kHead + "[web]\naccept = curve_tun:0.0.0.0:4433\nallow = a\n";  // 4 lines
const std::string kOut = kHead + "[out]\nclient = yes\naccept = 127.0.0.1:1\n";          // 4 lines

std::vector<std::string> texts(const Service& service) {
    std::vector<std::string> out;
    out.reserve(service.connect.size());
    for (const auto& target : service.connect) out.push_back(target.text());
    return out;
}

TEST_CASE("targets come from lists and from several lines, in their order", "[config][targets]") {
    const Config config =
        good(kWeb + "connect = 127.0.0.1:1, unix:/a\nconnect = tcp:[::1]:2 ,localhost:3\nfailover = rr\n");
    const Service& service = config.services[0];
    CHECK(texts(service) == std::vector<std::string>{"127.0.0.1:1", "unix:/a", "[::1]:2", "localhost:3"});
    CHECK(service.connect_text() == "127.0.0.1:1, unix:/a, [::1]:2, localhost:3");
    CHECK(service.failover == Failover::round_robin);
    CHECK(good(kWeb + "connect = 127.0.0.1:1\n").services[0].failover == Failover::prio);
    CHECK(good(kWeb + "failover = prio\nconnect = udp:127.0.0.1:1, udp:127.0.0.1:2\n").services.size() == 1);
}

TEST_CASE("each target's host is its peer, or one name is that of all", "[config][targets]") {
    const std::string two = "connect = curve_tun:one.example:4433\nconnect = curve_tun:two.example:4433\n";
    const Service apart = good(kOut + two).services[0];
    CHECK(apart.peer.empty());
    CHECK(apart.peers() == std::vector<std::string>{"one.example", "two.example"});
    CHECK(apart.peer_of(apart.connect[1]) == "two.example");
    const Service together = good(kOut + two + "peer = gate\n").services[0];
    CHECK(together.peers() == std::vector<std::string>{"gate"});
    CHECK(together.peer_of(together.connect[1]) == "gate");
    const Service ports = good(kOut + "connect = curvecp:one.example:1, curvecp:one.example:2\n").services[0];
    CHECK(ports.peer == "one.example");
}

TEST_CASE("what is wrong with targets is told with the line of each", "[config][targets]") {
    const auto refused = [](const std::string& text, const std::string& why) {
        CAPTURE(text);
        const auto problems = problems_of(text);
        REQUIRE(problems.size() == 1);
        CHECK_THAT(problems[0], Contains(why));
    };
    refused(kWeb + "connect = 127.0.0.1:1\nconnect = 127.0.0.1\n",
            "6: connect: \"127.0.0.1\": want HOST:PORT");
    refused(kWeb + "connect = 127.0.0.1:1,\n", "5: connect: \"\": want HOST:PORT");
    refused(kWeb + "connect = 127.0.0.1:1\nconnect = unix:/a, tcp:127.0.0.1:1\n",
            "6: connect: 127.0.0.1:1 stands twice");
    refused(kWeb + "connect = 127.0.0.1:1\nconnect = udp:127.0.0.1:1\n",
            "6: connect: udp:127.0.0.1:1 and 127.0.0.1:1 carry different things");
    refused(kWeb + "connect = seqpacket:/a, unix:/b\n",
            "5: connect: unix:/b and seqpacket:/a carry different");
    refused(kOut + "connect = curve_tun:a:1\nconnect = curvecp:b:1\n",
            "6: connect: curvecp:b:1 and curve_tun:a:1 are of two wires");
    refused(kWeb + "connect = 127.0.0.1:1\nfailover = first\n", "6: failover: ");
    refused(kWeb + "connect = 127.0.0.1:1\nfailover = rr\nfailover = rr\n", "7: \"failover\" stands twice");
}

TEST_CASE("seqpacket: is a plain side on both ends", "[config][seqpacket]") {
    const Service server = good(kWeb + "connect = seqpacket:/run/a.sock\n").services[0];
    CHECK(server.connect[0].kind == Address::Kind::seqpacket);
    CHECK(server.connect[0].path == "/run/a.sock");
    CHECK(server.connect_text() == "seqpacket:/run/a.sock");
    CHECK(server.plain_side() == PlainSide::records);
    const Service client =
        good(kHead + "[c]\nclient = yes\naccept = seqpacket:/b\nconnect = curvecp:h:1\n").services[0];
    CHECK(client.accept.text() == "seqpacket:/b");
    CHECK_THAT(parse_plain("seqpacket:a", Use::accept).error(), Contains("write it from the root"));
    CHECK_THAT(parse_plain("seqpacket:/" + std::string(200, 'a'), Use::accept).error(),
               Contains("at most 107"));
    CHECK_THAT(parse_tunnel("seqpacket:/a", Use::accept).error(),
               Contains("begins with curve_tun: or curvecp:"));
    CHECK_FALSE(parse_metrics("seqpacket:/a").has_value());
}

TEST_CASE("a unix socket's path is taken whatever its kind", "[config][seqpacket]") {
    CHECK(overlap(*parse_plain("seqpacket:/a", Use::accept), *parse_plain("unix:/a", Use::accept)));
    CHECK_FALSE(
        overlap(*parse_plain("seqpacket:/a", Use::accept), *parse_plain("seqpacket:/b", Use::accept)));
    CHECK_FALSE(overlap(*parse_plain("seqpacket:/a", Use::accept), *parse_plain("127.0.0.1:1", Use::accept)));
}

TEST_CASE("records know no PROXY header, and no end by close", "[config][seqpacket]") {
    const std::string records = kWeb + "connect = seqpacket:/a\n";
    CHECK_THAT(problems_of(records + "proxy = v2\n"),
               Equals(std::vector<std::string>{
                   "6: proxy begins a stream, and connect is seqpacket:, without one: remove it"}));
    const auto close = problems_of(records + "end-of-stream = close\n");
    REQUIRE(close.size() == 1);
    CHECK_THAT(close[0], Contains("6: end-of-stream = close has no word for the end of records"));
    CHECK(good(records + "end-of-stream = message\n").services[0].end_of_stream == EndOfStream::message);
    // A global `close` speaks of the others.
    CHECK(good("end-of-stream = close\n" + records).services[0].end_of_stream == EndOfStream::message);
    CHECK_THAT(problems_of(records + "flows = 3\n")[0],
               Contains("6: flows belongs to a service whose plain"));
}

}  // namespace
}  // namespace curvegate::config
