#include "config/address.hpp"
#include "config/values.hpp"
#include "tests/unit/config_support.hpp"
#include "wire/curvecp.hpp"

namespace curvegate::config {
namespace {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using Extension = std::array<std::uint8_t, 16>;
using Lines = std::vector<std::string>;

const std::string kDigits = "00112233445566778899aabbccDDEEFF";
constexpr Extension kBytes = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                              0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

/// A server end in four lines; `more` begins in the fifth.
std::string server(const std::string& name, const std::string& accept, const std::string& connect,
                   const std::string& more = "") {
    return "[" + name + "]\nallow = a\naccept = " + accept + "\nconnect = " + connect + "\n" + more;
}
std::string server(const std::string& name, const std::string& more = "") {
    return server(name, "curvecp:0.0.0.0:4433", "127.0.0.1:80", more);
}
/// A client end in four lines.
std::string client(const std::string& name, const std::string& accept, const std::string& connect,
                   const std::string& more = "") {
    return "[" + name + "]\nclient = yes\naccept = " + accept + "\nconnect = " + connect + "\n" + more;
}
std::string client(const std::string& more = "") {
    return client("out", "127.0.0.1:8080", "curvecp:server.example:4433", more);
}

/// The one problem of a text, or none.
std::string problem_of(const std::string& text) {
    const auto problems = problems_of(text);
    CHECK(problems.size() < 2);
    return problems.empty() ? "" : problems.front();
}

TEST_CASE("either wire goes together with streams and datagrams", "[config]") {
    struct Case {
        std::string tunnel;
        std::string plain;
    };
    for (const auto& [tunnel, plain] : std::vector<Case>{{"curvecp:127.0.0.1:1", "127.0.0.1:2"},
                                                         {"curvecp:127.0.0.1:1", "unix:/a"},
                                                         {"curvecp:127.0.0.1:1", "udp:127.0.0.1:2"},
                                                         {"curve_tun:127.0.0.1:1", "udp:127.0.0.1:2"},
                                                         {"curve_tun:127.0.0.1:1", "tcp:127.0.0.1:2"}}) {
        CAPTURE(tunnel, plain);
        for (const Service& service : good(kHead + server("in", tunnel, plain)).services) {
            CHECK(service.tunnel() == *parse_tunnel(tunnel, Use::accept));
            CHECK(service.plain() == *parse_plain(plain, Use::connect));
        }
        for (const Service& service : good(kHead + client("out", plain, tunnel)).services) {
            CHECK(service.tunnel() == *parse_tunnel(tunnel, Use::connect));
            CHECK(service.plain() == *parse_plain(plain, Use::accept));
        }
    }
}

TEST_CASE("with curvecp a peer defaults to the host of connect", "[config]") {
    CHECK(good(kHead + client()).services[0].peer == "server.example");
    CHECK(good(kHead + client("peer = b\n")).services[0].peer == "b");
}

TEST_CASE("what a section of curvecp does not set has the documented default", "[config]") {
    const Service service = good(kHead + client()).services[0];
    CHECK(service.server_extension == Extension{});
    CHECK(service.client_extension == Extension{});
    CHECK(service.limits.flow_idle == 60s);
    CHECK(service.limits.flows == 1'024);
    CHECK(service.end_of_stream == EndOfStream::message);
    CHECK(service.limits.dead_peer == 60s);
    CHECK(service.limits.connect_timeout == 10s);
}

TEST_CASE("the keys of curvecp land in their places, from a section or from the globals", "[config]") {
    const std::string keys =
        "server-extension = " + kDigits + "\nclient-extension = ff" + kDigits.substr(2) +
        "\nflow-idle = 5s\nflows = 7\ndead-peer = 1m\nidle-timeout = 2m\nconnect-timeout = 3s\n"
        "max-session = 4h\nsessions-per-peer = 5\n";
    const std::string section = client("dns", "udp:127.0.0.1:53", "curvecp:server.example:4433");
    for (const auto& text : {kHead + section + keys, kHead + keys + section}) {
        CAPTURE(text);
        const Service service = good(text).services[0];
        CHECK(service.server_extension == kBytes);
        CHECK(service.client_extension[0] == 0xff);
        CHECK(service.client_extension[15] == 0xff);
        CHECK(service.limits.flow_idle == 5s);
        CHECK(service.limits.flows == 7);
        CHECK(service.limits.dead_peer == 1min);
        CHECK(service.limits.idle_timeout == 2min);
        CHECK(service.limits.connect_timeout == 3s);
        CHECK(service.limits.max_session == 4h);
        CHECK(service.limits.sessions_per_peer == 5);
    }
}

TEST_CASE("an extension is 32 hexadecimal digits", "[config]") {
    CHECK(parse_extension(kDigits) == Value<Extension>(kBytes));
    CHECK(parse_extension(std::string(32, '0')) == Value<Extension>(Extension{}));
    for (const auto& text : {std::string("0"), kDigits.substr(1), kDigits + "0", "0x" + kDigits.substr(2),
                             "g" + kDigits.substr(1), kDigits.substr(1) + " ", "-" + kDigits.substr(1)}) {
        CAPTURE(text);
        CHECK_THAT(parse_extension(text).error(), Contains("want 16 bytes as 32 hexadecimal digits"));
    }
    CHECK(problem_of(kHead + client("server-extension = 1\n")) ==
          "6: server-extension: \"1\" is not an extension: want 16 bytes as 32 hexadecimal digits");
}

TEST_CASE("a server name defaults to the section's", "[config]") {
    CHECK(good(kHead + server("web")).services[0].server_name == "web");
    CHECK(good(kHead + client()).services[0].server_name == "out");
    CHECK(good(kHead + server("web", "server-name = a.b\n")).services[0].server_name == "a.b");
    CHECK(good(kHead + client("server-name = a.b\n")).services[0].server_name == "a.b");
    CHECK(good(kHead + server("web", "server-name = *\n")).services[0].server_name == "*");
    CHECK(good(kHead + server("web", "curve_tun:0.0.0.0:1", "unix:/a")).services[0].server_name == "web");
    CHECK(good(kHead + client("a..b", "unix:/a", "curve_tun:h:1")).services[0].server_name == "a..b");
}

TEST_CASE("a server name is what DNS labels can say", "[config]") {
    const std::string label(63, 'a');
    const std::string longest = label + "." + label + "." + label + "." + label.substr(1);
    REQUIRE(longest.size() == 254);
    for (const auto& name : {std::string("a"), std::string("a.b-c_d.E"), label, longest, std::string("*")}) {
        CAPTURE(name);
        CHECK(parse_server_name(name) == Value<std::string>(name));
        CHECK((name == "*" || wire::curvecp::encode_server_name(name)));
    }
    struct Case {
        std::string name;
        std::string words;
    };
    const std::string empty_part = " has an empty part beside a dot, which the wire cannot carry: write ";
    for (const auto& [name, words] : std::vector<Case>{
             {"a..b", "\"a..b\"" + empty_part + "\"a.b\""},
             {".a", "\".a\"" + empty_part + "\"a\""},
             {"a.b.", "\"a.b.\"" + empty_part + "\"a.b\""},
             {".", "\".\"" + empty_part + "a name"},
             {"b." + label + "a", " is 64 bytes long: between dots 63 is the most that the wire carries"},
             {longest + "a", " is 255 bytes long: 254 is the most that the wire carries"},
             {longest + "aa", "is not a name"},
             {"a b", "\"a b\" is not a name"},
             {"*.a", "\"*.a\" is not a name"},
             {"", "\"\" is not a name"}}) {
        CAPTURE(name);
        const auto parsed = parse_server_name(name);
        REQUIRE_FALSE(parsed);
        CHECK_THAT(parsed.error(), Contains(words));
    }
    for (const auto& name : {std::string("a..b"), std::string("."), label + "a", longest + "a"})
        CHECK_FALSE(wire::curvecp::encode_server_name(name));
    CHECK_THAT(problem_of(kHead + client("server-name = a..b\n")),
               Contains("6: server-name: \"a..b\" has an"));
}

TEST_CASE("a section's name that the wire cannot carry needs a server name beside it", "[config]") {
    const std::string words = ": server-name = NAME is missing, since the section's name cannot be it: ";
    CHECK_THAT(problem_of(kHead + server("a..b")), Contains("2" + words + "\"a..b\" has an empty part"));
    CHECK_THAT(problem_of(kHead + client(std::string(64, 'a'), "unix:/a", "curvecp:h:1")),
               Contains("2" + words));
    CHECK(good(kHead + server("a..b", "server-name = b\n")).services[0].server_name == "b");
    CHECK(problem_of(kHead + server("a..b", "curve_tun:0.0.0.0:1", "unix:/a")).empty());
}

TEST_CASE("a client asks for one name, a server that answers to all is warned of", "[config]") {
    CHECK_THAT(problem_of(kHead + client("server-name = *\n")),
               Contains("6: server-name: a client end asks for one service: write its name, not *"));
    const auto warnings = warnings_of(kHead + server("web", "server-name = *\n"));
    REQUIRE(warnings.size() == 1);
    CHECK_THAT(warnings[0], Contains("6: server-name = * lets [web] answer to every name"));
    CHECK(warnings_of(kHead + server("web")).empty());
    CHECK(warnings_of(kHead + client("server-name = web\n")).empty());
}

TEST_CASE("a service of curvecp warns of what it lets in as one of curve_tun does", "[config]") {
    const std::string open = "[web]\naccept = curvecp:0.0.0.0:1\nconnect = udp:127.0.0.1:53\n";
    CHECK_THAT(warnings_of(kHead + open).at(0), Contains("2: nobody may use [web]"));
    CHECK_THAT(warnings_of(kHead + open + "allow = *\n").at(0),
               Contains("5: allow = * lets any key into [web]"));
}

TEST_CASE("many services share one curvecp: address by their names", "[config]") {
    const Config config =
        good(kHead + server("web") + server("dns", "curvecp:0.0.0.0:4433", "udp:127.0.0.1:53") +
             server("rest", "server-name = *\n"));
    REQUIRE(config.services.size() == 3);
    CHECK(config.services[0].accept == config.services[2].accept);
    CHECK(
        good(kHead + server("a", "curvecp:[::1]:1", "unix:/a") + server("b", "curvecp:[0:0::1]:1", "unix:/b"))
            .services[1]
            .accept.host == "::1");
    CHECK(problem_of(kHead + server("a", "curvecp:[::ffff:127.0.0.1]:1", "unix:/a") +
                     server("b", "curvecp:127.0.0.1:1", "unix:/b"))
              .empty());
}

TEST_CASE("services on one curvecp: address differ in their names", "[config]") {
    CHECK(problem_of(kHead + server("a") + server("b", "server-name = a\n")) ==
          "10: server-name: a is taken by [a] in line 2, on the same address: give each section a name of "
          "its own");
    CHECK_THAT(problem_of(kHead + server("a", "server-name = b\n") + server("b")),
               Contains("7: server-name: b is taken by [a] in line 6"));
    CHECK(problem_of(kHead + server("a", "server-name = *\n") + server("c") +
                     server("b", "server-name = *\n")) ==
          "15: server-name: * is taken by [a] in line 6: only one section on an address may answer to every "
          "name");
    CHECK(
        problem_of(kHead + server("a") + server("b", "curvecp:0.0.0.0:4434", "unix:/a", "server-name = a\n"))
            .empty());
    CHECK(problem_of(kHead + server("a", "server-name = A\n") + server("b", "server-name = a\n")).empty());
}

TEST_CASE("services on one curvecp: address have one server extension", "[config]") {
    const std::string one = "server-extension = " + std::string(31, '0') + "1\n";
    const std::string advice =
        ", on the same address: write the same in both, or one above the first [section]";
    CHECK(problem_of(kHead + server("a") + server("b", one)) ==
          "10: server-extension is not that of [a] in line 2" + advice);
    CHECK(problem_of(kHead + server("a", one) + server("b")) ==
          "7: server-extension is not that of [a] in line 6" + advice);
    CHECK(problem_of(kHead + server("a", one) + server("b", one)).empty());
    CHECK(problem_of(kHead + one + server("a") + server("b")).empty());
    CHECK(problem_of(kHead + server("a") + server("b", "curvecp:0.0.0.0:4434", "unix:/a", one)).empty());
    // Each is compared with the first alone: one odd section of many is told once.
    CHECK(problems_of(kHead + server("a") + server("b", one) + server("c")).size() == 1);
}

TEST_CASE("listeners that keep each other out are told, whatever listens", "[config]") {
    const std::string wide = server("a", "curvecp:0.0.0.0:1", "unix:/a");
    CHECK(problem_of(kHead + wide + server("b", "curvecp:127.0.0.1:1", "unix:/b")) ==
          "8: accept: curvecp:127.0.0.1:1 overlaps curvecp:0.0.0.0:1 of [a] in line 4: services that share a "
          "port must "
          "write the same address");
    CHECK_THAT(problem_of(kHead + wide + server("b", "curvecp:[::]:1", "unix:/b")),
               Contains("8: accept: curvecp:[::]:1"));
    CHECK(problem_of(kHead + wide + client("b", "udp:127.0.0.1:1", "curvecp:h:1")) ==
          "8: accept: udp:127.0.0.1:1 is taken by [a] in line 4");
    CHECK_THAT(problem_of(kHead + client("a", "udp:127.0.0.1:1", "curve_tun:h:1") +
                          server("b", "curvecp:0.0.0.0:1", "unix:/b")),
               Contains("8: accept: curvecp:0.0.0.0:1 is taken by [a] in line 4"));
    CHECK_THAT(problem_of(kHead + client("a", "udp:127.0.0.1:1", "curvecp:h:1") +
                          client("b", "udp:127.0.0.1:1", "curvecp:h:1")),
               Contains("8: accept: udp:127.0.0.1:1 is taken by [a]"));
    // Each is told of the first that stands in its way.
    CHECK(problems_of(kHead + wide + client("b", "udp:0.0.0.0:1", "curve_tun:h:1") +
                      client("c", "udp:0.0.0.0:1", "curve_tun:h:1"))
              .size() == 2);
    CHECK(problem_of(kHead + wide + server("b", "curve_tun:0.0.0.0:1", "unix:/b")).empty());
    CHECK(problem_of(kHead + wide + client("b", "127.0.0.1:1", "curvecp:h:1")).empty());
    CHECK(problem_of(kHead + wide + server("b", "curvecp:[::1]:1", "unix:/b")).empty());
}

TEST_CASE("what belongs to CurveCP is refused in a section of curve_tun, and ignored there as a global",
          "[config]") {
    const std::string in = server("in", "curve_tun:0.0.0.0:1", "127.0.0.1:80");
    const std::string out = client("out", "127.0.0.1:80", "curve_tun:h:1");
    for (const std::string key : {"server-name", "server-extension", "client-extension"}) {
        const std::string line = key + " = " + kDigits + "\n";
        const std::string problem = "6: " + key + " belongs to curvecp:; curve_tun has none: remove it";
        CHECK(problem_of(kHead + in + line) == problem);
        CHECK(problem_of(kHead + out + line) == problem);
        if (key != "server-name") CHECK(problem_of(kHead + line + in + out).empty());
    }
}

TEST_CASE("a client's extension is the client's", "[config]") {
    const std::string line = "client-extension = " + kDigits + "\n";
    CHECK(problem_of(kHead + server("in", line)) ==
          "6: client-extension belongs to a client end (client = yes); a server end takes what each client "
          "sends: "
          "remove it");
    CHECK(good(kHead + line + server("in") + client()).services[1].client_extension == kBytes);
}

TEST_CASE("end-of-stream belongs to streams through curve_tun", "[config]") {
    const std::string line = "end-of-stream = close\n";
    const std::string by_curvecp =
        "6: end-of-stream belongs to curve_tun:; CurveCP has an authenticated end of its own: remove it";
    const std::string datagrams =
        "6: end-of-stream belongs to streams; the plain side is udp:, and datagrams have no end: remove it";
    CHECK(problem_of(kHead + server("in", line)) == by_curvecp);
    CHECK(problem_of(kHead + client(line)) == by_curvecp);
    CHECK(problem_of(kHead + client("out", "udp:127.0.0.1:1", "curvecp:h:1", line)) == by_curvecp);
    CHECK(problem_of(kHead + server("in", "curve_tun:0.0.0.0:1", "udp:127.0.0.1:1", line)) == datagrams);
    CHECK(problem_of(kHead + client("out", "udp:127.0.0.1:1", "curve_tun:h:1", line)) == datagrams);

    const Config config =
        good(kHead + line + server("a") + server("b", "curve_tun:0.0.0.0:1", "udp:127.0.0.1:1") +
             server("c", "curve_tun:0.0.0.0:2", "127.0.0.1:1"));
    CHECK(config.services[0].end_of_stream == EndOfStream::message);
    CHECK(config.services[1].end_of_stream == EndOfStream::message);
    CHECK(config.services[2].end_of_stream == EndOfStream::close);
}

TEST_CASE("flows belong to datagrams", "[config]") {
    for (const std::string key : {"flow-idle", "flows"}) {
        const std::string line = key + (key == "flows" ? " = 5\n" : " = 5s\n");
        const std::string problem = "6: " + key +
                                    " belongs to a service whose plain side is udp:; connections are "
                                    "bounded by idle-timeout and sessions-per-peer: remove it";
        CHECK(problem_of(kHead + client(line)) == problem);
        CHECK(problem_of(kHead + server("in", line)) == problem);
        CHECK(problem_of(kHead + client("out", "unix:/a", "curve_tun:h:1", line)) == problem);
        CHECK(problem_of(kHead + line + client() + server("in")).empty());
        CHECK(warnings_of(kHead + client("out", "udp:127.0.0.1:1", "curve_tun:h:1", line)).empty());
        CHECK(warnings_of(kHead + server("in", "curve_tun:0.0.0.0:1", "udp:127.0.0.1:1", line)) ==
              Lines{"6: " + key +
                    " does nothing on a server end: the client end counts the sources of datagrams"});
    }
    CHECK_THAT(problem_of(kHead + "flows = 0\n" + client()),
               Contains("2: flows: \"0\" is not a whole number"));
    CHECK(problem_of(kHead + "flow-idle = 0s\n" + client()) == "2: flow-idle: shorter than 1s");
}

TEST_CASE("an address that is wrong brings no further problems of its wire", "[config]") {
    CHECK(
        problems_of(kHead +
                    server("in", "curvecp:name:1", "127.0.0.1:1", "server-extension = " + kDigits + "\n")) ==
        Lines{
            "4: accept: accept needs an address such as 0.0.0.0, 127.0.0.1 or [::], not the name \"name\""});
    CHECK(problems_of(kHead + client("out", "udp:name:1", "curvecp:h:1", "flows = 5\n")).size() == 1);
    // What the good one of the two addresses says is told all the same.
    CHECK(problems_of(kHead + server("in", "curve_tun:0.0.0.0:1", "udp:1", "server-name = a\n")).size() == 2);
}

}  // namespace
}  // namespace curvegate::config
