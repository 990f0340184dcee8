#include "status/text.hpp"
#include "status_samples.hpp"

#include <catch2/catch.hpp>

#include <sstream>

namespace curvegate::status {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
}

TEST_CASE("a small snapshot on a usual screen", "[status]") {
    CHECK(render_text(small_snapshot(), nullptr, {.width = 80, .height = 24}) ==
          R"(curvegate 0.1.0  up 1d 03:46:40  generation 7  vault 4/4  4 workers
sessions     2  in 3.00 KiB  out 1.00 KiB  half-open     6  cookie key 42 s

SERVICE STATE    SESSIONS   ACCEPTED REFUSED       IN      OUT
web     active          2      1,204       3 3.00 KiB 1.00 KiB ████████
dns     idle            0          5       0      0 B      0 B

PEER    STATE    SESSIONS HANDSHAKES    LAST       IN      OUT
laptop  up              2      1,200   1 min 3.00 KiB 1.00 KiB ████████
phone   never           0          0       -      0 B      0 B

REFUSED BECAUSE
      2 client is not authorised
      1 no hello in time

SESSION SERVICE PEER      AGE       IN      OUT FROM
     18 web     laptop    1 s     30 B     40 B [2001:db8::1]:4
     17 web     laptop    5 s     10 B     20 B 192.0.2.7:37410
... and 1 more
)");
}

TEST_CASE("the greatest number of sessions stands beside them", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.sessions_limit = 262'144;
    CHECK(render_text(snapshot, nullptr, {.width = 80, .height = 24})
              .contains("sessions     2 of 262,144  in "));
}

TEST_CASE("while sessions use two server keys it is shown who uses the older one", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.server_keys = {
        {"TotUuIRvBVU/l+ymSN81wEqVV0Oo/OFs7SPR8c5LsGM=", 1'204, 3, {"a", "b", "c"}},
        {"oQ1W3osxXeyCUVM7u8xDxuuAQGkB2/2MsAeiGBPFnRQ=", 7, 6, {"a", "b", "c", "d", "e", "f"}}};
    const auto text = render_text(snapshot, nullptr, {.width = 80, .height = 24, .glyphs = Glyphs::ascii});
    CHECK(
        text.contains("\nserver key TotUuIRv...  1,204 sessions of 3 peers\n"
                      "older key  oQ1W3osx...  7 sessions of 6 peers: a, b, c, d, e and 1 more\n"));
    snapshot.server_keys.pop_back();
    CHECK_FALSE(render_text(snapshot, nullptr, {.width = 80, .height = 24}).contains("server key"));
}

TEST_CASE("with rates on a wide screen", "[status]") {
    const auto before = small_snapshot();
    auto after = before;
    after.uptime += 1s;
    after.services[0].traffic.bytes_in += 1'048'576;
    after.services[0].handshakes += 3;
    after.services[1].traffic.bytes_out += 200'000;
    after.peers[0].traffic.bytes_in += 1'000;
    const auto now = rates(before, after);
    CHECK(render_text(after, &now, {.width = 140, .height = 0}) ==
          R"(curvegate 0.1.0  up 1d 03:46:41  generation 7  vault 4/4  4 workers  2026-11-22T12:00:00Z
sessions     2  in 1.00 MiB/s  out  195 KiB/s  half-open     6  cookie key 42 s

SERVICE STATE    SESSIONS   ACCEPTED REFUSED     IN/S    OUT/S          HANDSH/S WHERE                                           IN      OUT
web     active          2      1,204       3 1.00 MiB      0 B ████████        3 server curve_tun:0.0.0.0:4433 → 127.0.0.… 1.00 MiB 1.00 KiB
dns     idle            0          5       0      0 B  195 KiB █▌              0 client udp:127.0.0.1:53 → curvecp:server…      0 B  195 KiB

PEER    STATE    SESSIONS HANDSHAKES    LAST     IN/S    OUT/S          HANDSH/S KEY                                             IN      OUT
laptop  up              2      1,200   1 min   1000 B      0 B ████████        0 oQ1W3osxXeyCUVM7u8xDxuuAQGkB2/2MsAeiGBPF… 3.97 KiB 1.00 KiB
phone   never           0          0       -      0 B      0 B                 0                                                0 B      0 B

REFUSED BECAUSE
      2 client is not authorised
      1 no hello in time

SESSION SERVICE PEER      AGE       IN      OUT FROM
     18 web     laptop    1 s     30 B     40 B [2001:db8::1]:4
     17 web     laptop    5 s     10 B     20 B 192.0.2.7:37410
... and 1 more
)");
}

TEST_CASE("in ASCII everything is ASCII", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.services[0].name = "caf\xc3\xa9";
    const auto page = render_text(snapshot, nullptr, {.width = 120, .glyphs = Glyphs::ascii});
    for (const char c : page) CHECK((c == '\n' || (c >= 0x20 && c < 0x7f)));
    CHECK(page.contains("caf\\u{00e9}"));
    CHECK(page.contains(" ######## "));
    CHECK(page.contains("server curve_tun:0.0.0.0:4433 > "));
}

TEST_CASE("no line is too wide and there are not too many, whatever the names", "[status]") {
    const auto small = small_snapshot();
    const auto hostile = hostile_snapshot();
    const auto none = rates(small, small);
    for (const auto* snapshot : {&small, &hostile}) {
        for (const auto* now : {static_cast<const Rates*>(nullptr), &none}) {
            for (const auto glyphs : {Glyphs::unicode, Glyphs::ascii}) {
                for (std::size_t width = 1; width <= 180; ++width) {
                    const auto page = render_text(*snapshot, now, {.width = width, .glyphs = glyphs});
                    for (const auto& line : lines_of(page)) CHECK(cells(line) <= width);
                }
                for (std::size_t height = 1; height <= 40; ++height) {
                    const auto lines = lines_of(
                        render_text(*snapshot, now, {.width = 80, .height = height, .glyphs = glyphs}));
                    CHECK(lines.size() <= height);
                    CHECK(lines[0].starts_with("curvegate "));
                }
            }
        }
    }
}

TEST_CASE("no control character of a name reaches the terminal", "[status]") {
    const auto page = render_text(hostile_snapshot(), nullptr, {.width = 0, .height = 0});
    for (const char c : page) CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n'));
    CHECK_FALSE(page.contains("\xe2\x80\xae"));
    CHECK_FALSE(page.contains("\xff"));
    CHECK(page.contains("a\\x1b[2J\"\\\\x0a\\xff\\u{202e}}"));
    CHECK(page.contains("... and 18446744073709551615 more"));
}

TEST_CASE("nothing at all is a head", "[status]") {
    CHECK(render_text({}, nullptr, {}) ==
          "curvegate   up 00:00:00  generation 0  vault 0/0  0 workers\n"
          "sessions     0  in 0 B  out 0 B  half-open     0  cookie key 0 s\n");
    const auto now = rates({}, {});
    CHECK(lines_of(render_text({}, &now, {})).size() == 2);
}

TEST_CASE("columns stand still while numbers change", "[status]") {
    auto one = small_snapshot();
    auto two = one;
    two.uptime += 1s;
    for (auto* services : {&two.services}) {
        for (auto& service : *services) {
            service.sessions = service.accepted = service.refused = kHuge;
            service.traffic = {kHuge / 4, kHuge / 4};
        }
    }
    two.connections[0].traffic = {kHuge, kHuge};
    const auto now = rates(one, two);
    const auto still = rates(one, one);
    for (const std::size_t width : {60UL, 80UL, 120UL, 140UL}) {
        const auto before = lines_of(render_text(one, &still, {.width = width, .height = 24}));
        const auto after = lines_of(render_text(two, &now, {.width = width, .height = 24}));
        REQUIRE(before.size() == after.size());
        for (std::size_t i = 0; i < before.size(); ++i) {
            if (before[i].starts_with("SERVICE") || before[i].starts_with("PEER") ||
                before[i].starts_with("SESSION"))
                CHECK(before[i] == after[i]);
        }
    }
}

TEST_CASE("troubles stand in the head, long ones in three lines at most", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.draining = true;
    snapshot.reload_error =
        "/etc/curvegate/curvegate.conf:12: unknown key \"acept\" (did you mean \"accept\"?)";
    snapshot.vault = {3, 4, 2};
    snapshot.audit_failures = 1;
    snapshot.revocations = 2;
    const auto lines = lines_of(render_text(snapshot, nullptr, {.width = 80}));
    CHECK(lines[0].contains("vault 3/4 (lost 2)"));
    CHECK(lines[2] == "draining: takes no new connections, ends with the last session or at the");
    CHECK(lines[3] == "  deadline");
    CHECK(lines[4] == "reload failed, generation 7 stays: /etc/curvegate/curvegate.conf:12: unknown key");
    CHECK(lines[5] == "  \"acept\" (did you mean \"accept\"?)");
    CHECK(lines[6] == "vault: 1 worker waits for it, and new handshakes with them");
    CHECK(lines[7] == "audit: 1 record was not written");
    CHECK(lines[8].empty());

    snapshot.reload_error = std::string(100'000, 'x');
    CHECK(lines_of(render_text(snapshot, nullptr, {.width = 40}))[2].starts_with("draining"));
    for (const auto& line : lines_of(render_text(snapshot, nullptr, {.width = 40}))) CHECK(cells(line) <= 40);
}

TEST_CASE("udp shows once it was used", "[status]") {
    auto snapshot = small_snapshot();
    CHECK_FALSE(render_text(snapshot, nullptr, {}).contains("curvecp hellos"));
    snapshot.hellos_answered = 1'234;
    snapshot.datagrams_dropped = 5;
    CHECK(lines_of(render_text(snapshot, nullptr, {}))[2] ==
          "curvecp hellos 1,234  dropped 0  datagrams in 0  out 0  dropped 5");
}

TEST_CASE("the newest connections come first, those that do not fit are counted", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.connections.clear();
    for (std::uint64_t id = 1; id <= 50; ++id)
        snapshot.connections.push_back(
            {id, "web", "laptop", "192.0.2.7:1", kNoon - std::chrono::seconds(id % 7), {}, {}});
    snapshot.connections_left_out = 1'000;
    const auto lines = lines_of(render_text(snapshot, nullptr, {.width = 80, .height = 24}));
    REQUIRE(lines.size() == 24);
    CHECK(lines[15].starts_with("SESSION"));
    CHECK(lines[16].starts_with("     49 web     laptop    0 s"));
    CHECK(lines[17].starts_with("     42 web     laptop    0 s"));
    CHECK(lines[23] == "... and 1043 more");
}

TEST_CASE("peers that are here come before those that were, and those before who never came", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.peers = {{"never", "", 0, 0, {}, std::nullopt},
                      {"away", "", 0, 1, {}, kNoon},
                      {"", "", 1, 1, {}, kNoon},
                      {"here", "", 1, 1, {}, kNoon}};
    const auto page = render_text(snapshot, nullptr, {});
    const auto at = page.find("\nPEER");
    CHECK(page.find("\n(any key) up", at) < page.find("\nhere      up", at));
    CHECK(page.find("\nhere      up", at) < page.find("\naway      away", at));
    CHECK(page.find("\naway      away", at) < page.find("\nnever     never", at));
    CHECK(page.find("\nnever     never", at) != std::string::npos);
}

TEST_CASE("titles are bold and troubles red where that is asked for", "[status]") {
    auto snapshot = small_snapshot();
    snapshot.audit_failures = 1;
    const auto painted = render_text(snapshot, nullptr, {.width = 80, .paint = Paint::ansi});
    CHECK(painted.starts_with("\x1b[1mcurvegate 0.1.0"));
    CHECK(painted.contains("\n\x1b[1;31maudit: 1 record was not written\x1b[0m\n"));
    std::string bare;
    for (std::size_t i = 0; i < painted.size(); ++i) {
        if (painted[i] == '\x1b')
            i = painted.find('m', i);
        else
            bare += painted[i];
    }
    CHECK(bare == render_text(snapshot, nullptr, {.width = 80}));
}

TEST_CASE("cells are cut and filled", "[status]") {
    CHECK(fitted("abc", 5, Align::left, Glyphs::unicode) == "abc  ");
    CHECK(fitted("abc", 5, Align::right, Glyphs::unicode) == "  abc");
    CHECK(fitted("abcdef", 5, Align::left, Glyphs::unicode) == "abcd…");
    CHECK(fitted("abcdef", 5, Align::right, Glyphs::ascii) == "abcd~");
    CHECK(fitted("a\xc3\xa9\xc3\xa9", 2, Align::left, Glyphs::unicode) == "a…");
    CHECK(fitted("abc", 1, Align::left, Glyphs::unicode) == "…");
    CHECK(fitted("abc", 0, Align::left, Glyphs::unicode).empty());
    CHECK(bytes_of_cells("a\xc3\xa9z", 2) == 3);
    CHECK(bytes_of_cells("a\xc3\xa9z", 9) == 4);
}

TEST_CASE("characters that are no single cell are written out", "[status]") {
    CHECK(plain("plain text", Glyphs::unicode) == "plain text");
    CHECK(plain("M\xc3\xbcnchen \xce\xb1 \xd0\xb6", Glyphs::unicode) == "M\xc3\xbcnchen \xce\xb1 \xd0\xb6");
    CHECK(plain("M\xc3\xbcnchen", Glyphs::ascii) == "M\\u{00fc}nchen");
    CHECK(plain("\xe4\xb8\xad", Glyphs::unicode) == "\\u{4e2d}");  // two cells
    CHECK(plain("e\xcc\x81", Glyphs::unicode) == "e\\u{0301}");    // none
    CHECK(plain("\xc2\xad\xe2\x80\x8b", Glyphs::unicode) == "\\u{00ad}\\u{200b}");
    CHECK(plain("\xf0\x9f\x98\x80", Glyphs::unicode) == "\\u{1f600}");
    CHECK(plain("\xc2\x9b\x7f\x1b", Glyphs::unicode) == "\\u{009b}\\x7f\\x1b");
}

TEST_CASE("bars grow by eighths", "[status]") {
    CHECK(bar(0, 8, 4, Glyphs::unicode) == "    ");
    CHECK(bar(8, 8, 4, Glyphs::unicode) == "████");
    CHECK(bar(4, 8, 4, Glyphs::unicode) == "██  ");
    CHECK(bar(3, 8, 1, Glyphs::unicode) == "▍");
    CHECK(bar(5, 32, 4, Glyphs::unicode) == "▋   ");
    CHECK(bar(1e-9, 8, 4, Glyphs::unicode) == "▏   ");
    CHECK(bar(1e-9, 8, 4, Glyphs::ascii) == "#   ");
    CHECK(bar(6, 8, 4, Glyphs::ascii) == "### ");
    CHECK(bar(9, 8, 4, Glyphs::ascii) == "####");
    CHECK(bar(1, 0, 4, Glyphs::unicode) == "    ");
    CHECK(bar(-1, 8, 4, Glyphs::unicode) == "    ");
    CHECK(bar(1, 8, 0, Glyphs::unicode).empty());
}

TEST_CASE("columns go by rank, together, and the first never", "[status]") {
    const std::vector<Column> columns = {{"A", Align::left, 4, 10, 0},
                                         {"B", Align::left, 5, 5, 2},
                                         {"C", Align::left, 5, 5, 2},
                                         {"D", Align::left, 3, 8, 1}};
    using Widths = std::vector<std::size_t>;
    CHECK(column_widths(columns, 100) == Widths{10, 5, 5, 8});
    CHECK(column_widths(columns, 23) == Widths{7, 5, 5, 3});
    CHECK(column_widths(columns, 20) == Widths{4, 5, 5, 3});
    CHECK(column_widths(columns, 19) == Widths{10, 0, 0, 8});
    CHECK(column_widths(columns, 8) == Widths{4, 0, 0, 3});
    CHECK(column_widths(columns, 7) == Widths{7, 0, 0, 0});
    CHECK(column_widths(columns, 2) == Widths{2, 0, 0, 0});
}

}  // namespace
}  // namespace curvegate::status
