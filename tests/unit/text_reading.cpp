#include "registry_keys.hpp"
#include "text/reading.hpp"

#include <catch2/catch.hpp>

#include <array>

namespace curvegate::text {
namespace {

using registry::key_number;
using registry::key_text;

constexpr std::array<std::string_view, 6> kKnown = {"accept",      "connect", "connect-timeout",
                                                    "known-hosts", "peer",    "log-file"};

TEST_CASE("a slip of the fingers finds the word that was meant", "[text]") {
    struct Case {
        std::string_view word;
        std::string_view meant;
    };
    for (const auto& [word, meant] :
         {Case{"acept", "accept"}, Case{"acecpt", "accept"}, Case{"Accept", "accept"},
          Case{"accepts", "accept"}, Case{"conect", "connect"}, Case{"knownhosts", "known-hosts"},
          Case{"known_hosts", "known-hosts"}, Case{"per", "peer"}, Case{"pere", "peer"},
          Case{"timeout", "connect-timeout"}, Case{"log", "log-file"}}) {
        CAPTURE(word);
        REQUIRE(nearest(word, kKnown));
        CHECK(*nearest(word, kKnown) == meant);
    }
}

TEST_CASE("another word is not taken for a slip", "[text]") {
    for (const std::string_view word : {"", "x", "protocol", "port", "zzzzzz", "of"}) {
        CAPTURE(word);
        CHECK_FALSE(nearest(word, kKnown));
        CHECK(did_you_mean(word, kKnown).empty());
    }
    CHECK_FALSE(nearest(std::string(100'000, 'a'), kKnown));
    CHECK_FALSE(nearest("accept", std::span<const std::string_view>()));
}

TEST_CASE("a quotation is short, plain and never a key", "[text]") {
    CHECK(quoted("abc") == "\"abc\"");
    CHECK(quoted("") == "\"\"");
    CHECK(quoted("a\x1b[2J\t\xc3\xa9") == "\"a\\x1b[2J\\x09\\xc3\\xa9\"");
    CHECK(quoted(std::string(60, 'z')) == "\"" + std::string(40, 'z') + "...\"");
    CHECK(quoted(key_text(1)) == "(a key)");
    CHECK(quoted("secret: " + key_text(1)) == "(a key)");
    CHECK(quoted(key_text(1).substr(2)) == "(a key)");
    CHECK(quoted(crypto::encode_key(key_number(1).bytes(), crypto::KeyFormat::hex)) == "(a key)");
}

TEST_CASE("lines end with LF, CRLF or the text", "[text]") {
    Lines lines("a\r\n\nb\rc\nd");
    CHECK(lines.next() == "a");
    CHECK(lines.next() == "");
    CHECK(lines.next() == "b\rc");
    CHECK(lines.number() == 3);
    CHECK(lines.next() == "d");
    CHECK_FALSE(lines.next());
    CHECK(lines.number() == 4);
    CHECK_FALSE(Lines("").next());
    Lines one("\n");
    CHECK(one.next() == "");
    CHECK_FALSE(one.next());
}

TEST_CASE("a separator gives one part more than it stands there", "[text]") {
    Parts parts("a,,b,", ',');
    CHECK(parts.next() == "a");
    CHECK(parts.next() == "");
    CHECK(parts.next() == "b");
    CHECK(parts.next() == "");
    CHECK_FALSE(parts.next());
    Parts empty("", ',');
    CHECK(empty.next() == "");
    CHECK_FALSE(empty.next());
}

TEST_CASE("what is no text is told", "[text]") {
    CHECK_FALSE(why_not_text("plain \t text, \xc3\xa9"));
    CHECK(why_not_text(std::string(65'536, 'a')) == std::nullopt);
    CHECK(why_not_text(std::string(65'537, 'a')) == "line is longer than 65536 bytes");
    CHECK(why_not_text(std::string_view("a\0b", 3)) == "NUL byte in the line: this is not a text file");
    CHECK(why_not_text("a\rb") == "control character \\x0d in the line");
    CHECK(why_not_text("\x7f") == "control character \\x7f in the line");
}

}  // namespace
}  // namespace curvegate::text
