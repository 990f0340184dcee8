#include "config/values.hpp"

#include "config/address.hpp"
#include "config/ini.hpp"
#include "config/keys.hpp"

#include <catch2/catch.hpp>

#include <set>

namespace curvegate::config {
namespace {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;

constexpr Range<Duration> kDay = {1ms, 24h};

TEST_CASE("a duration is a whole number and a unit", "[config]") {
    CHECK(parse_duration("250ms", kDay) == Value<Duration>(250ms));
    CHECK(parse_duration("5s", kDay) == Value<Duration>(5s));
    CHECK(parse_duration("2m", kDay) == Value<Duration>(2min));
    CHECK(parse_duration("12h", kDay) == Value<Duration>(12h));
    CHECK(parse_duration("1d", kDay) == Value<Duration>(24h));
    CHECK(parse_duration("5 s", kDay) == Value<Duration>(5s));
    CHECK(parse_duration("0s", {0ms, 24h}) == Value<Duration>(0s));
    CHECK(parse_duration("86400s", kDay) == Value<Duration>(24h));
}

TEST_CASE("what is no duration is told", "[config]") {
    CHECK_THAT(parse_duration("5", kDay).error(), Contains("has no unit: 5s?"));
    for (const auto* text : {"", "s", "-5s", "+5s", "1.5s", "5sec", "5s5m", "1w", "5S", "5  m s"}) {
        CAPTURE(text);
        CHECK_THAT(parse_duration(text, kDay).error(), Contains("is not a duration such as"));
    }
    CHECK(parse_duration("0s", kDay).error() == "shorter than 1ms");
    CHECK(parse_duration("86401s", kDay).error() == "longer than 1d");
    CHECK(parse_duration("2d", kDay).error() == "longer than 1d");
    CHECK(parse_duration("9999999999999999999999d", kDay).error() == "longer than 1d");
    CHECK(parse_duration("9223372036854775807h", kDay).error() == "longer than 1d");
    CHECK(parse_duration("1s", {90s, 24h}).error() == "shorter than 90s");
}

TEST_CASE("a count is a whole number in its range", "[config]") {
    CHECK(parse_count("0", {0, 256}) == Value<std::uint64_t>(0));
    CHECK(parse_count("256", {0, 256}) == Value<std::uint64_t>(256));
    for (const auto* text : {"257", "-1", "", "x", "1k", "1 ", "1.0", "99999999999999999999999"}) {
        CAPTURE(text);
        CHECK_THAT(parse_count(text, {0, 256}).error(), Contains("is not a whole number from 0 to 256"));
    }
}

TEST_CASE("a rate may have decimals", "[config]") {
    CHECK(parse_rate("0.5", {0.1, 1e6}) == Value<double>(0.5));
    CHECK(parse_rate("64", {0.1, 1e6}) == Value<double>(64));
    for (const auto* text : {"0", "-1", "inf", "nan", "1e9", "", "1/s"}) {
        CAPTURE(text);
        CHECK_THAT(parse_rate(text, {0.1, 1e6}).error(), Contains("is not a number from 0.1 to 1000000"));
    }
}

TEST_CASE("a path is written from the root", "[config]") {
    CHECK(parse_path("/etc/a b") == Value<std::string>("/etc/a b"));
    for (const auto* text : {"keys/a", "./a", "~/a", "a"}) {
        CHECK_THAT(parse_path(text).error(), Contains("is not a full path"));
    }
    CHECK_THAT(parse_path("/" + std::string(4095, 'a')).error(), Contains("longer than 4095 bytes"));
    CHECK(parse_unix_socket("unix:/a") == Value<std::string>("/a"));
    CHECK_THAT(parse_unix_socket("/a").error(), Contains("want unix:/path"));
    CHECK_THAT(parse_unix_socket("unix:a").error(), Contains("is not a full path"));
    CHECK(parse_unix_socket("unix:/" + std::string(106, 'a')));
    CHECK_THAT(parse_unix_socket("unix:/" + std::string(107, 'a')).error(), Contains("at most 107 bytes"));
}

TEST_CASE("an allow list holds names, or * alone", "[config]") {
    CHECK(parse_allow("a")->names == std::vector<std::string>{"a"});
    CHECK(parse_allow("a, b ,c")->names == std::vector<std::string>{"a", "b", "c"});
    CHECK(parse_allow("*")->any);
    CHECK_THAT(parse_allow("a, *").error(), Contains("* stands alone"));
    CHECK_THAT(parse_allow("a b").error(), Contains("part names with commas"));
    CHECK_THAT(parse_allow("a,,b").error(), Contains("\"\" is not a name"));
    CHECK_THAT(parse_allow("a,").error(), Contains("\"\" is not a name"));
    CHECK_THAT(parse_allow("a*").error(), Contains("\"a*\" is not a name"));
}

TEST_CASE("one of a few words is told with the nearest", "[config]") {
    constexpr std::array<std::pair<std::string_view, int>, 3> kChoices = {
        {{"red", 1}, {"green", 2}, {"blue", 3}}};
    CHECK(parse_choice("green", kChoices) == Value<int>(2));
    CHECK(parse_choice("gren", kChoices).error() ==
          "\"gren\" is not red, green or blue (did you mean \"green\"?)");
    CHECK(parse_choice("Red", kChoices).error() ==
          "\"Red\" is not red, green or blue (did you mean \"red\"?)");
    CHECK(parse_choice("violet", kChoices).error() == "\"violet\" is not red, green or blue");
}

TEST_CASE("an address reads back as it was written", "[config]") {
    for (const auto* text :
         {"127.0.0.1:80", "[::1]:80", "[2001:db8::1]:65535", "0.0.0.0:1", "unix:/run/a.sock",
          "udp:127.0.0.1:53", "udp:[::1]:53", "[fe80::1%eth0]:80", "udp:[fe80::1%eth0.5]:80"}) {
        CAPTURE(text);
        REQUIRE(parse_plain(text, Use::accept));
        CHECK(parse_plain(text, Use::accept)->text() == text);
        CHECK(parse_plain(text, Use::connect)->text() == text);
    }
    CHECK(parse_plain("tcp:127.0.0.1:80", Use::accept)->text() == "127.0.0.1:80");
    CHECK(parse_plain("server.example:80", Use::connect)->host == "server.example");
    CHECK(parse_tunnel("curve_tun:[::]:4433", Use::accept)->host == "::");
    CHECK(parse_tunnel("curve_tun:server_1.example:4433", Use::connect)->text() ==
          "curve_tun:server_1.example:4433");
    CHECK(parse_tunnel("curvecp:[::]:4433", Use::accept)->text() == "curvecp:[::]:4433");
    CHECK(parse_tunnel("curvecp:server.example:4433", Use::connect)->kind == Address::Kind::udp);
    CHECK(parse_plain("localhost:80", Use::accept)->text() == "127.0.0.1:80");
    CHECK(parse_plain("localhost:80", Use::connect)->text() == "localhost:80");
}

TEST_CASE("an address to listen on has one spelling, one to connect to keeps its own", "[config]") {
    CHECK(parse_plain("[0:0::0:1]:80", Use::accept) == parse_plain("[::1]:80", Use::accept));
    CHECK(parse_tunnel("curvecp:[::ffff:127.0.0.1]:80", Use::accept)->text() == "curvecp:127.0.0.1:80");
    CHECK(parse_plain("[2001:DB8::1]:80", Use::connect)->host == "2001:DB8::1");
    CHECK(parse_plain("[FE80:0::1%eth0]:80", Use::accept)->host == "fe80::1%eth0");
    CHECK(parse_plain("[FE80:0::1%eth0]:80", Use::connect)->host == "FE80:0::1%eth0");
}

TEST_CASE("what is no address is told", "[config]") {
    struct Case {
        std::string text;
        std::string words;
    };
    const std::vector<Case> cases = {
        {"8080", "want HOST:PORT"},
        {":8080", "want HOST:PORT"},
        {"::1:80", "want HOST:PORT, or [v6]:PORT"},
        {"[127.0.0.1]:80", "want HOST:PORT"},
        {"[]:80", "is neither an address nor a host's name"},
        {"[::1]", "want HOST:PORT"},
        {"*:80", "* is no host: name the one to connect to"},
        {"300.1.1.1:80", "is neither an address nor a host's name"},
        {"[fe80::1]:80", "write the interface too, e.g. [fe80::1%eth0]:PORT"},
        {"udp:[fe80::1]:80", "is a link-local address"},
        {"[fe80::1%]:80", "is not the name of an interface"},
        {"[fe80::1%eth0%eth1]:80", "is not the name of an interface"},
        {"[fe80::1%an-interface-too-long]:80", "is not the name of an interface"},
        {"[2001:db8::1%eth0]:80", "only a link-local address (fe80::...) takes an interface"},
        {"127.0.0.1%eth0:80", "only a link-local address"},
        {"server.example%eth0:80", "is neither an address nor a host's name"},
        {"a b:80", "is neither an address nor a host's name"},
        {"http://a:80", "want HOST:PORT"},
        {std::string(254, 'a') + ":80", "is neither an address nor a host's name"},
        {"127.0.0.1:", "\"\" is not a port"},
        {"127.0.0.1:0", "\"0\" is not a port: want 1 to 65535"},
        {"127.0.0.1:65536", "is not a port"},
        {"127.0.0.1:http", "is not a port"},
        {"127.0.0.1:-1", "is not a port"},
        {"udp:127.0.0.1", "want HOST:PORT"},
        {"udp:127.0.0.1:0", "\"0\" is not a port: want 1 to 65535"},
        {"udp:unix:/a", "\"/a\" is not a port"},
        {"systemd:web", "belongs into accept"},
        {"tcp:systemd:web", "belongs into accept"},
        {"udp:systemd:web", "belongs into accept"},
        {"unix:run/a", "is not a full path"},
    };
    for (const auto& [text, words] : cases) {
        CAPTURE(text);
        const auto parsed = parse_plain(text, Use::connect);
        REQUIRE_FALSE(parsed);
        CHECK_THAT(parsed.error(), Contains(words));
    }
    CHECK_THAT(parse_tunnel("curve_tun:*:4433", Use::accept).error(), Contains("[::] means every address"));
    for (const char* text : {"curve_tun:4433", "curvecp:4433", "curve_tun::4433"})
        CHECK_THAT(parse_tunnel(text, Use::accept).error(),
                   Contains("write [::]:PORT to listen on every one"));
    CHECK_THAT(parse_tunnel("curve_tun:::1:80", Use::accept).error(), Contains("[v6]:PORT"));
    CHECK_THAT(parse_plain("server.example:80", Use::accept).error(),
               Contains("not the name \"server.example\""));
    CHECK_THAT(parse_tunnel("unix:/a", Use::connect).error(), Contains("begins with curve_tun: or curvecp:"));
    CHECK_THAT(parse_tunnel("curve_tun:systemd:a:b", Use::accept).error(), Contains("FileDescriptorName="));
    CHECK_THAT(parse_plain("systemd:", Use::accept).error(), Contains("is not a name"));
    CHECK_THAT(parse_tunnel("curvecp:systemd:a", Use::accept).error(),
               Contains("write curvecp:ADDRESS:PORT"));
    CHECK_THAT(parse_metrics("systemd:a").error(), Contains("for this machine only"));
}

TEST_CASE("the word before the address of a tunnel is its wire", "[config][wire]") {
    for (const Use use : {Use::accept, Use::connect}) {
        const auto by_tcp = parse_tunnel("curve_tun:192.0.2.1:4433", use);
        REQUIRE(by_tcp);
        CHECK(by_tcp->wire == Wire::curve_tun);
        CHECK(by_tcp->kind == Address::Kind::tcp);
        const auto by_udp = parse_tunnel("curvecp:192.0.2.1:4433", use);
        REQUIRE(by_udp);
        CHECK(by_udp->wire == Wire::curvecp);
        CHECK(by_udp->kind == Address::Kind::udp);
        CHECK(by_udp->text() == "curvecp:192.0.2.1:4433");
        CHECK_FALSE(parse_plain("192.0.2.1:4433", use)->wire);
        CHECK_FALSE(parse_plain("udp:192.0.2.1:4433", use)->wire);
    }
}

TEST_CASE("what is kept for version 2 is refused with the word to write", "[config][wire]") {
    const std::string kept = " is kept for version 2, which this program does not speak yet: write ";
    const auto why = [](std::string_view text, Use use) {
        const auto address = parse_tunnel(text, use);
        REQUIRE_FALSE(address);
        return address.error();
    };
    for (const Use use : {Use::accept, Use::connect}) {
        CHECK(why("udp:0.0.0.0:4433", use) ==
              "\"udp:0.0.0.0:4433\": on the tunnel's side udp:" + kept + "curvecp:0.0.0.0:4433");
        CHECK(why("tcp:[::]:4433", use) ==
              "\"tcp:[::]:4433\": on the tunnel's side tcp:" + kept + "curve_tun:[::]:4433");
        CHECK_THAT(why("udp:0.0.0.0:4433 # all", use), EndsWith("write curvecp:0.0.0.0:4433"));
    }
    // What is wrong behind the word is not repeated.
    for (const std::string text : {"udp:", "udp:nonsense", "udp:name:", "udp:\x01:1", "udp:unix:/a"}) {
        CAPTURE(text);
        CHECK_THAT(why(text, Use::connect), EndsWith("write curvecp:HOST:PORT"));
        CHECK_THAT(why(text, Use::accept), EndsWith("write curvecp:ADDRESS:PORT"));
    }
    CHECK_THAT(why("udp:systemd:web", Use::accept), EndsWith("side udp:" + kept + "curvecp:ADDRESS:PORT"));
    CHECK(why("192.0.2.1:4433", Use::connect) ==
          "\"192.0.2.1:4433\": on the tunnel's side a bare HOST:PORT" + kept +
              "curve_tun:192.0.2.1:4433, or curvecp:192.0.2.1:4433 over UDP");
    CHECK_THAT(why("[::]:4433", Use::accept),
               EndsWith("curvecp:[::]:4433 over UDP (a client end needs client = yes)"));
    CHECK_THAT(why("systemd:web", Use::accept), EndsWith("side systemd:" + kept + "curve_tun:systemd:web"));
    CHECK_THAT(why("tcp:systemd:web", Use::accept), EndsWith("side tcp:" + kept + "curve_tun:systemd:web"));
    for (const auto* text : {"systemd:web", "tcp:systemd:web", "udp:systemd:web", "curve_tun:systemd:web"})
        CHECK_THAT(why(text, Use::connect), Contains("belongs into accept"));
}

TEST_CASE("the tunnel's side has the words of the wires and no others", "[config][wire]") {
    for (const auto* text :
         {"unix:/a", "seqpacket:/a", "none", "", "curve_tun", "CURVECP:0.0.0.0:1", " curvecp:0.0.0.0:1",
          "http://a:80", ":4433", "4433", "server.example", "server.example:http", "::1:80"}) {
        CAPTURE(text);
        const auto address = parse_tunnel(text, Use::accept);
        REQUIRE_FALSE(address);
        CHECK_THAT(address.error(), Contains("the tunnel's side begins with curve_tun: or curvecp:, e.g. "
                                             "curve_tun:0.0.0.0:4433 (a client end needs client = yes)"));
    }
    CHECK_THAT(parse_tunnel("curvetun:a:1", Use::connect).error(),
               EndsWith("e.g. curve_tun:server.example:4433 (did you mean \"curve_tun\"?)"));
    for (const auto* text : {"curve_tun:", "curvecp:", "curvecp:unix:/a", "curve_tun:curvecp:0.0.0.0:1",
                             "curvecp:udp:0.0.0.0:1", "curve_tun::1:80", "curvecp:0.0.0.0:0"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_tunnel(text, Use::accept));
        CHECK_FALSE(parse_tunnel(text, Use::connect));
    }
}

TEST_CASE("the plain side has no wire", "[config][wire]") {
    CHECK(
        parse_plain("curvecp:127.0.0.1:53", Use::connect).error() ==
        "\"curvecp:127.0.0.1:53\": curvecp: names what is spoken in a tunnel, and this is the plain side: "
        "write 127.0.0.1:53 for streams, udp:127.0.0.1:53 for datagrams (a client end, whose connect is the "
        "tunnel's side, needs client = yes)");
    CHECK(
        parse_plain("curve_tun:127.0.0.1:80", Use::accept).error() ==
        "\"curve_tun:127.0.0.1:80\": curve_tun: names what is spoken in a tunnel, and this is the plain "
        "side: write 127.0.0.1:80 for streams, udp:127.0.0.1:80 for datagrams (a server end, whose accept is "
        "the tunnel's side, has no client = yes)");
    CHECK_THAT(parse_plain("curve_tun:systemd:web", Use::accept).error(), Contains("write systemd:web"));
    for (const auto* text : {"curve_tun:127.0.0.1:9", "curvecp:127.0.0.1:9"})
        CHECK_THAT(parse_metrics(text).error(), Contains("write 127.0.0.1:PORT"));
}

TEST_CASE("accept may name sockets that the service manager passes", "[config]") {
    for (const auto* text : {"systemd:web", "tcp:systemd:web"})
        CHECK(parse_plain(text, Use::accept)->text() == "systemd:web");
    const auto tunnel = parse_tunnel("curve_tun:systemd:web", Use::accept);
    REQUIRE(tunnel);
    CHECK(tunnel->passed == "web");
    CHECK(tunnel->text() == "curve_tun:systemd:web");
    CHECK(overlap(*tunnel, *parse_plain("systemd:web", Use::accept)));
    const auto datagrams = parse_plain("udp:systemd:dns", Use::accept);
    REQUIRE(datagrams);
    CHECK(datagrams->kind == Address::Kind::udp);
    CHECK(datagrams->text() == "udp:systemd:dns");
    CHECK(overlap(*datagrams, *parse_plain("systemd:dns", Use::accept)));
    CHECK_FALSE(overlap(*datagrams, *parse_plain("udp:127.0.0.1:53", Use::accept)));
    CHECK_FALSE(overlap(*datagrams, *parse_plain("udp:systemd:web", Use::accept)));
}

TEST_CASE("listeners overlap where one keeps the other out", "[config]") {
    const auto both = [](const char* a, const char* b) {
        const auto x = *parse_plain(a, Use::accept);
        const auto y = *parse_plain(b, Use::accept);
        CHECK(overlap(x, y) == overlap(y, x));
        return overlap(x, y);
    };
    CHECK(both("127.0.0.1:80", "127.0.0.1:80"));
    CHECK(both("0.0.0.0:80", "127.0.0.1:80"));
    CHECK(both("[::]:80", "127.0.0.1:80"));
    CHECK(both("[::]:80", "0.0.0.0:80"));
    CHECK(both("[::]:80", "[::1]:80"));
    CHECK(both("[::1]:80", "[0:0::0:1]:80"));
    CHECK(both("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
    CHECK(both("localhost:80", "127.0.0.1:80"));
    CHECK(both("localhost:80", "0.0.0.0:80"));
    CHECK_FALSE(both("localhost:80", "[::1]:80"));
    CHECK(both("unix:/a", "unix:/a"));
    CHECK_FALSE(both("127.0.0.1:80", "127.0.0.1:81"));
    CHECK_FALSE(both("127.0.0.1:80", "127.0.0.2:80"));
    CHECK_FALSE(both("0.0.0.0:80", "[::1]:80"));
    CHECK_FALSE(both("unix:/a", "unix:/b"));
    CHECK_FALSE(both("unix:/a", "127.0.0.1:80"));
    CHECK(both("udp:0.0.0.0:80", "udp:127.0.0.1:80"));
    CHECK(both("udp:[::]:80", "udp:[::1]:80"));
    CHECK_FALSE(both("udp:0.0.0.0:80", "tcp:0.0.0.0:80"));
    CHECK_FALSE(both("udp:127.0.0.1:80", "udp:127.0.0.1:81"));
}

TEST_CASE("a line is blank, a section, a setting or told", "[config]") {
    using Kind = IniLine::Kind;
    for (const auto* text : {"", "  \t", "; a", "# a = b", "  ; a", "\t# [a]", " ;a=b"})
        CHECK(lex(text).kind == Kind::blank);
    for (const auto* text : {"[web]", "  [ web ] ", "[web] ; c", "[web]\t;c"}) {
        CHECK(lex(text).kind == Kind::section);
        CHECK(lex(text).name == "web");
    }
    for (const auto* text : {"a=b", "a = b", "\ta\t=\tb\t", "a = b ; c", "a = b\t;c ; d"}) {
        CHECK(lex(text).kind == Kind::setting);
        CHECK(lex(text).name == "a");
        CHECK(lex(text).value == "b");
    }
    CHECK(lex("a = b;c").value == "b;c");
    CHECK(lex("a = b=c # d").value == "b=c # d");
    struct Case {
        std::string text;
        std::string words;
    };
    for (const auto& [text, words] :
         std::vector<Case>{{"[web", "the ] is missing"},
                           {"[web] x", "the ] is missing"},
                           {"[]", "a section has a name"},
                           {"accept", "want \"key = value\" or [section], not \"accept\""},
                           {"= b", "no key before the ="},
                           {"a =", "\"a\" has no value"},
                           {"a = ; b", "\"a\" has no value"},
                           {std::string("a\0b", 3), "NUL byte"},
                           {"a = \x01", "control character \\x01"},
                           {std::string(65'537, 'a'), "longer than 65536 bytes"}}) {
        CAPTURE(text.substr(0, 40));
        CHECK(lex(text).kind == Kind::bad);
        CHECK_THAT(lex(text).problem, Contains(words));
    }
}

TEST_CASE("the table of keys names each key once and explains it", "[config]") {
    std::set<std::string_view> names;
    for (const Key& key : all_keys()) {
        CAPTURE(key.name);
        CHECK(names.insert(key.name).second);
        CHECK_FALSE(key.help.empty());
        CHECK_FALSE(key.help.ends_with('.'));
        CHECK_FALSE(key.value.empty());
        CHECK(find_key(key.name) == &key);
    }
    CHECK(find_key("no-such-key") == nullptr);
}

}  // namespace
}  // namespace curvegate::config
