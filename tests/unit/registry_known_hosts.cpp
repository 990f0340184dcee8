#include "registry/known_hosts.hpp"

#include "registry/dates.hpp"
#include "registry_keys.hpp"

#include <catch2/catch.hpp>

#include <random>

namespace curvegate::registry {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

bool same(const Entry& a, const Entry& b) {
    return a.revoked == b.revoked && a.from == b.from && a.valid_until == b.valid_until &&
           a.names == b.names && a.key == b.key && a.comment == b.comment;
}

TEST_CASE("a line gives its names, key and comment", "[registry]") {
    const auto entries = entries_of("laptop,10.0.0.7 curve25519 " + key_text(1) + "  my old   laptop \n");
    REQUIRE(entries.size() == 1);
    CHECK(entries[0].names == std::vector<std::string>{"laptop", "10.0.0.7"});
    CHECK(entries[0].key == key_number(1));
    CHECK(entries[0].comment == "my old   laptop");
    CHECK(entries[0].line == 1);
    CHECK_FALSE(entries[0].revoked);
    CHECK(entries[0].from.empty());
    CHECK_FALSE(entries[0].valid_until);
}

TEST_CASE("a key may be written in base64, hex and Z85", "[registry]") {
    for (const auto format : {crypto::KeyFormat::base64, crypto::KeyFormat::hex, crypto::KeyFormat::z85}) {
        const auto text = crypto::encode_key(key_number(7).bytes(), format);
        const auto entries = entries_of("a curve25519 " + text);
        CAPTURE(text);
        REQUIRE(entries.size() == 1);
        CHECK(entries[0].key == key_number(7));
    }
}

TEST_CASE("comments, empty lines, CRLF, tabs and a missing last line end are no problem", "[registry]") {
    const std::string text = "\xef\xbb\xbf# first\r\n\r\n  # second\na\tcurve25519 \t" + key_text(1) +
                             "\r\n\t\nb curve25519 " + key_text(2);
    const auto entries = entries_of(text);
    REQUIRE(entries.size() == 2);
    CHECK(entries[0].line == 4);
    CHECK(entries[0].comment.empty());
    CHECK(entries[1].line == 6);
    CHECK(entries_of("").empty());
    CHECK(problems_of("").empty());
}

TEST_CASE("options stand in any order after the marker", "[registry]") {
    for (const std::string options : {"@revoked from=10.0.0.0/8,::1 valid-until=2030-01-31",
                                      "@revoked valid-until=2030-01-31 from=10.0.0.0/8,::1"}) {
        const auto entries = entries_of(options + " a curve25519 " + key_text(1));
        REQUIRE(entries.size() == 1);
        CHECK(entries[0].revoked);
        CHECK(entries[0].from == std::vector{*IpBlock::parse("10.0.0.0/8"), *IpBlock::parse("::1")});
        CHECK(entries[0].valid_until == at("2030-02-01T00:00:00Z"));
    }
}

TEST_CASE("identical lines and several keys of one name are fine", "[registry]") {
    const std::string line = "a curve25519 " + key_text(1) + "\n";
    CHECK(entries_of(line + line + "a curve25519 " + key_text(2)).size() == 3);
}

TEST_CASE("a bad line is refused with its number and what is wrong", "[registry]") {
    const std::string key = key_text(1);
    const std::string hexed = crypto::encode_key(key_number(1).bytes(), crypto::KeyFormat::hex);
    const std::string weak = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    struct Case {
        std::string line;
        std::string words;
    };
    const std::vector<Case> cases = {
        {"@revokd a curve25519 " + key, "unknown marker \"@revokd\" (did you mean \"@revoked\"?)"},
        {"@cert-authority a curve25519 " + key, "unknown marker \"@cert-authority\""},
        {"form=10.0.0.0/8 a curve25519 " + key, "unknown option \"form\" (did you mean \"from\"?)"},
        {"valid_until=2030-01-01 a curve25519 " + key, "(did you mean \"valid-until\"?)"},
        {"from=10.0.0.0/8 from=::1 a curve25519 " + key, "from= stands twice"},
        {"from=10.0.0.1/8 a curve25519 " + key, "\"10.0.0.1/8\" is not an address or block"},
        {"from=10.0.0.0/33 a curve25519 " + key, "is not an address or block"},
        {"from=10.0.0.0/8, a curve25519 " + key, "from=: \"\" is not an address"},
        {"from= a curve25519 " + key, "from=: \"\" is not an address"},
        {"valid-until=tomorrow a curve25519 " + key, "\"tomorrow\" is not a date"},
        {"valid-until=2030-01-01 valid-until=2030-01-02 a curve25519 " + key, "valid-until= stands twice"},
        {"* curve25519 " + key, "\"*\" is not a name"},
        {"a*.example curve25519 " + key, "is not a name"},
        {"a,,b curve25519 " + key, "\"\" is not a name"},
        {"[host]:22 curve25519 " + key, "is not a name"},
        {std::string(256, 'a') + " curve25519 " + key, "is not a name"},
        {"@revoked", "no name"},
        {"from=::1", "no name"},
        {key + " curve25519 a", "a name must stand before the key"},
        {"a", "no key after the name"},
        {"a " + key, "the word curve25519 is missing before the key"},
        {"a curve2519 " + key,
         "unknown key type \"curve2519\", want curve25519 (did you mean \"curve25519\"?)"},
        {"a ssh-ed25519 " + key, "unknown key type \"ssh-ed25519\", want curve25519"},
        {"a curve25519", "no key after the word curve25519"},
        {"a curve25519 abc", "3 hexadecimal digits, cut short: not a key"},
        {"a curve25519 " + key.substr(1), "not a key"},
        {"a curve25519 " + hexed.substr(0, 40), "40 hexadecimal digits, cut short"},
        {"a curve25519 " + hexed.substr(21), "43 hexadecimal digits, cut short"},
        {"a curve25519 " + crypto::fingerprint(key_number(1)), "a fingerprint"},
        {hexed.substr(0, 40) + " curve25519 " + key, "a name must stand before the key"},
        {"# a comment with\ra line of its own", "control character \\x0d"},
        {std::string("# a\0b", 5), "NUL byte"},
        {"# \x1b[2K", "control character \\x1b"},
        {"# M\xfcller", "byte \\xfc in the line: write the file as UTF-8"},
        {"a curve25519 " + key + " M\xfcller", "byte \\xfc"},
        {"# a\xe2\x80\xa8"
         "b curve25519",
         "control character U+2028"},
        {"# a\xc2\x85"
         "b",
         "control character U+0085"},
        {"# \xe2\x80\xae"
         "abc",
         "control character U+202e"},
        {"# " + std::string(64 * 1024, 'x'), "longer than 65536 bytes"},
        {"  \x0c", "control character \\x0c"},
        {"a curve25519 " + weak, "not canonical or is of low order"},
        {std::string("a curve25519\0", 13) + key, "NUL byte"},
        {"a curve25519 \x1b " + key, "control character \\x1b"},
        {"a curve25519 " + key + " " + std::string(64 * 1024, 'x'), "longer than 65536 bytes"},
    };
    for (const auto& [line, words] : cases) {
        CAPTURE(line.substr(0, 80));
        const auto problems = problems_of("# a comment\n" + line + "\nb curve25519 " + key + "\n");
        REQUIRE(problems.size() == 1);
        CHECK_THAT(problems[0], StartsWith("2: ") && Contains(words));
    }
}

TEST_CASE("every bad line is reported, up to a bound", "[registry]") {
    const auto problems = problems_of("a\nb\n\nc\n");
    REQUIRE(problems.size() == 3);
    CHECK_THAT(problems[2], StartsWith("4: "));
    std::string many;
    for (int i = 0; i < 1000; ++i) many += "a\n";
    const auto bounded = problems_of(many);
    CHECK(bounded.size() == 201);
    CHECK_THAT(bounded.back(), Contains("mend the others first"));
}

TEST_CASE("a problem never shows a key, which may be a secret in the wrong place", "[registry]") {
    const std::string key = key_text(1);
    for (const std::string& line :
         {"secret: " + key, key, "a b " + key, key + " " + key, "a=" + key, "role: " + key + " " + key}) {
        const auto problems = problems_of(line);
        REQUIRE(problems.size() == 1);
        CHECK_THAT(problems[0], !Contains(key.substr(0, 20)));
    }
}

TEST_CASE("format writes a line that parses to the same entry", "[registry]") {
    const std::string key = key_text(1);
    const std::vector<std::string> lines = {
        "a curve25519 " + key,
        "a,b.example,::1 curve25519 " + key + " with a comment # and = signs",
        "@revoked a curve25519 " + key,
        "from=10.0.0.0/8,192.0.2.1,::1,2001:db8::/32 a curve25519 " + key,
        "valid-until=2030-01-31 a curve25519 " + key,
        "valid-until=2030-01-31T12:30:01Z a curve25519 " + key,
        "@revoked from=0.0.0.0/0 valid-until=2030-12-31 a curve25519 " + key + " c",
    };
    for (const auto& line : lines) {
        const auto entries = entries_of(line);
        CAPTURE(line);
        REQUIRE(entries.size() == 1);
        CHECK(format(entries[0]) == line);
    }
}

TEST_CASE("whatever parses after random damage is given back by format", "[registry]") {
    const std::string good =
        "@revoked from=10.0.0.0/8,::/0 valid-until=2030-01-31T01:02:03Z a,b-c curve25519 " + key_text(3) +
        " a comment";
    std::mt19937 random(20'240'601);
    std::size_t parsed = 0;
    for (int round = 0; round < 20'000; ++round) {
        std::string line = good;
        for (auto edits = random() % 3; edits-- > 0;) {
            const auto at_byte = random() % line.size();
            if (random() % 2 == 0) {
                line[at_byte] = static_cast<char>(random() % 128);
            } else {
                line.erase(at_byte, 1 + random() % 4);
            }
        }
        const auto entries = entries_of(line);
        if (entries.size() != 1) continue;
        ++parsed;
        const auto again = entries_of(format(entries[0]));
        CAPTURE(line, format(entries[0]));
        REQUIRE(again.size() == 1);
        CHECK(same(again[0], entries[0]));
    }
    CHECK(parsed > 1000);
}

TEST_CASE("a date is the first moment at which a line is no longer valid", "[registry]") {
    using std::chrono::hours;
    using std::chrono::seconds;
    const WallTime noon = *parse_valid_until("2030-01-31T12:00:00Z");
    CHECK(noon.time_since_epoch() == seconds(1'896'091'200));
    CHECK(parse_valid_until("2030-01-31") == noon + hours(12));
    CHECK(parse_valid_until("2030-01-31t12:00:00z") == noon);
    CHECK(parse_valid_until("2030-01-31 12:00:00Z") == noon);
    CHECK(parse_valid_until("2030-01-31T14:30:00+02:30") == noon);
    CHECK(parse_valid_until("2030-01-31T04:00:00-08:00") == noon);
    CHECK(parse_valid_until("2030-01-31T12:00:00.999Z") == noon);
    CHECK(parse_valid_until("2016-12-31T23:59:60Z") == parse_valid_until("2016-12-31"));
    CHECK(parse_valid_until("2024-02-29") == parse_valid_until("2024-03-01T00:00:00Z"));
    CHECK(parse_valid_until("1969-12-31T23:59:59Z")->time_since_epoch() == seconds(-1));
}

TEST_CASE("what is no date is refused", "[registry]") {
    for (const auto* text : {"",
                             "2030",
                             "2030-1-1",
                             "2030-13-01",
                             "2030-00-10",
                             "2030-01-00",
                             "2030-02-30",
                             "2023-02-29",
                             "2030-01-01x",
                             "2030-01-01T",
                             "2030-01-01T24:00:00Z",
                             "2030-01-01T12:60:00Z",
                             "2030-01-01T12:00:61Z",
                             "2030-01-01T12:00:00",
                             "2030-01-01T12:00:00.Z",
                             "2030-01-01T12:00:00.5",
                             "2030-01-01T12:00:00+24:00",
                             "2030-01-01T12:00:00+02",
                             "2030-01-01T12:00:00Zx",
                             "2030/01/01",
                             "-030-01-01",
                             "0000-01-01T00:00:00+00:01",
                             "9999-12-31T23:59:59-00:01",
                             " 2030-01-01"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_valid_until(text));
    }
}

TEST_CASE("a date is written as it reads back", "[registry]") {
    for (const auto* text : {"2030-01-31", "0000-01-01", "9999-12-31", "2030-01-31T23:59:59Z",
                             "0000-01-01T00:00:00Z", "1969-07-20T20:17:40Z"}) {
        CHECK(format_valid_until(*parse_valid_until(text)) == text);
    }
    CHECK(format_valid_until(*parse_valid_until("2030-02-01T00:00:00Z")) == "2030-01-31");
}

TEST_CASE("a name is literal text of harmless characters", "[registry]") {
    for (const auto* name : {"a", "laptop-2", "server.example", "10.0.0.1", "2001:db8::1", "A_b.C"}) {
        CHECK(is_valid_name(name));
    }
    for (const auto* name : {"", "*", "a b", "a,b", "a=b", "@a", "#a", "a/b", "[::1]", "\xc3\xa9", "a\n"}) {
        CHECK_FALSE(is_valid_name(name));
    }
    CHECK(is_valid_name(std::string(255, 'a')));
    CHECK_FALSE(is_valid_name(std::string(256, 'a')));
}

}  // namespace
}  // namespace curvegate::registry
