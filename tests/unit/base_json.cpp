#include "base/json.hpp"

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include <limits>

namespace curvegate {
namespace {

TEST_CASE("strings are escaped", "[base]") {
    CHECK(json_string("") == R"("")");
    CHECK(json_string("a\"b\\c/") == R"("a\"b\\c/")");
    CHECK(json_string(std::string_view("\0\n\t\x1f\x7f", 5)) == R"("\u0000\u000a\u0009\u001f\u007f")");
    CHECK(json_string("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80") ==
          "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    CHECK(json_string("\xc2\x85\xe2\x80\xa8\xe2\x80\xae") == R"("\u0085\u2028\u202e")");
    CHECK(json_string("\xc2\xad\xe2\x80\x8b\xe2\x81\xa0\xef\xbb\xbf") == R"("\u00ad\u200b\u2060\ufeff")");
    CHECK(json_string("\xf3\xa0\x81\x81") == R"("\udb40\udc41")");  // a tag of U+E0041
    CHECK(json_string("a\xff\xc3") == "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
    CHECK(json_string("\xed\xa0\x80") ==
          "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");  // half a surrogate pair
}

TEST_CASE("every byte in a string gives JSON that another program reads", "[base]") {
    for (unsigned value = 0; value < 256; ++value) {
        const std::string text = {'a', static_cast<char>(value), 'b'};
        const auto json = json_string(text);
        CAPTURE(json);
        const bool is_ascii = value < 0x80;
        CHECK(boost::json::parse(json).as_string() == (is_ascii ? text
                                                                : "a\xef\xbf\xbd"
                                                                  "b"));
        for (const char c : json) CHECK((static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
    }
}

TEST_CASE("commas stand between values and nowhere else", "[base]") {
    CHECK(JsonWriter().open('{').close('}').take() == "{}");
    CHECK(JsonWriter().open('[').open('[').close(']').open('{').close('}').close(']').take() == "[[],{}]");
    JsonWriter out;
    out.open('{').key("z").number(1).key("a").open('[').text("x").text("y").null().close(']');
    out.key("o").open('{').key("\"").boolean(true).key("d").decimal("-0.250").close('}');
    out.key("n").number(std::numeric_limits<std::uint64_t>::max()).close('}');
    CHECK(out.take() == R"({"z":1,"a":["x","y",null],"o":{"\"":true,"d":-0.250},"n":18446744073709551615})");
}

TEST_CASE("a part of an object begins without a comma", "[base]") {
    CHECK(JsonWriter().key("a").number(0).key("b").text("").take() == R"("a":0,"b":"")");
}

}  // namespace
}  // namespace curvegate
