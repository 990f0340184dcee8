#include "base/ip.hpp"

#include <catch2/catch.hpp>

namespace curvegate {
namespace {

IpAddress ip(const std::string& text) {
    INFO(text);
    const auto out = IpAddress::parse(text);
    REQUIRE(out.has_value());
    return *out;
}

TEST_CASE("an address has one form, whichever way it is written", "[base]") {
    CHECK(ip("127.0.0.1").text() == "127.0.0.1");
    CHECK(ip("::ffff:127.0.0.1") == ip("127.0.0.1"));
    CHECK(ip("::ffff:7f00:1") == ip("127.0.0.1"));
    CHECK(ip("2001:DB8:0:0:0:0:0:1") == ip("2001:db8::1"));
    CHECK(ip("2001:db8::1").text() == "2001:db8::1");
    CHECK(ip("::").text() == "::");
    CHECK(ip("0.0.0.0").is_v4());
    CHECK_FALSE(ip("::").is_v4());
    CHECK_FALSE(ip("::1").is_v4());
    CHECK(IpAddress::from_v4(ByteArray<4>{10, 0, 0, 255}) == ip("10.0.0.255"));
    CHECK(ip("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255").text() ==
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

TEST_CASE("what is no literal address is refused", "[base]") {
    for (const std::string text : {"",
                                   " ",
                                   "1.2.3",
                                   "1.2.3.4.5",
                                   "1.2.3.256",
                                   "1.2.3.4 ",
                                   " 1.2.3.4",
                                   "01.2.3.4",
                                   "1.2.3.-4",
                                   "0x7f.0.0.1",
                                   "127.1",
                                   "2130706433",
                                   "localhost",
                                   "[::1]",
                                   "fe80::1%lo",
                                   ":::",
                                   "1::2::3",
                                   "12345::",
                                   "g::",
                                   "1.2.3.4/8",
                                   "1:2:3:4:5:6:7",
                                   "1:2:3:4:5:6:7:8:9"}) {
        INFO(text);
        CHECK_FALSE(IpAddress::parse(text));
    }
    CHECK_FALSE(IpAddress::parse(std::string("1.2.3.4\0x", 9)));
    CHECK_FALSE(IpAddress::parse(std::string_view("::1\0", 4)));
    CHECK_FALSE(IpAddress::parse(std::string(100, '1')));
}

TEST_CASE("this machine's own addresses are known as such", "[base]") {
    for (const auto* const own : {"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"})
        CHECK(ip(own).is_loopback());
    for (const auto* const other :
         {"126.255.255.255", "128.0.0.0", "0.0.0.0", "::", "::2", "1::1", "7f00::1"})
        CHECK_FALSE(ip(other).is_loopback());
}

TEST_CASE("a prefix clears exactly the bits behind it", "[base]") {
    IpAddress all;
    all.bytes.fill(0xff);
    for (unsigned bits = 0; bits <= 128; ++bits) {
        const auto kept = all.prefix(bits);
        for (unsigned i = 0; i < 128; ++i) {
            const bool set = (kept.bytes[i / 8] >> (7 - i % 8) & 1) != 0;
            REQUIRE(set == (i < bits));
        }
    }
    CHECK(ip("192.0.2.129").prefix(96 + 25) == ip("192.0.2.128"));
    CHECK(ip("2001:db8:1:2:3::").prefix(64) == ip("2001:db8:1:2::"));
}

TEST_CASE("a block holds its addresses and no others", "[base]") {
    struct Case {
        std::string block;
        std::string inside;
        std::string outside;
    };
    const auto c = GENERATE(values<Case>({{"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
                                          {"192.0.2.0/25", "192.0.2.127", "192.0.2.128"},
                                          {"192.0.2.1", "192.0.2.1", "192.0.2.2"},
                                          {"192.0.2.1/32", "::ffff:192.0.2.1", "192.0.2.0"},
                                          {"0.0.0.0/0", "255.255.255.255", "::1"},
                                          {"2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"},
                                          {"::1", "::1", "::2"},
                                          {"::/1", "7fff::", "8000::"},
                                          {"::/0", "2001:db8::1", "192.0.2.1"},
                                          {"::/1", "::1", "192.0.2.1"},
                                          {"::/80", "::1", "192.0.2.1"},
                                          {"::ffff:0:0/96", "192.0.2.1", "2001:db8::1"},
                                          {"::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"}}));
    INFO(c.block);
    const auto block = IpBlock::parse(c.block);
    REQUIRE(block.has_value());
    CHECK(block->contains(ip(c.inside)));
    CHECK_FALSE(block->contains(ip(c.outside)));
    CHECK(IpBlock::parse(block->text()) == *block);
}

TEST_CASE("a block with host bits or a wrong length is refused", "[base]") {
    for (const std::string text : {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "/8", "10.0.0.0/8/8",
                                   "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8 ", "10.0.0.0/0x8", "::/129",
                                   "2001:db8::1/32", "10.0.0.0/99999999999999999999", "", "any"}) {
        INFO(text);
        CHECK_FALSE(IpBlock::parse(text));
    }
}

TEST_CASE("a masked address shows its network alone", "[base]") {
    CHECK(ip("192.0.2.77").masked_text() == "192.0.2.0/24");
    CHECK(ip("::ffff:192.0.2.77").masked_text() == "192.0.2.0/24");
    CHECK(ip("2001:db8:1:2:3:4:5:6").masked_text() == "2001:db8:1::/48");
    CHECK(ip("::1").masked_text() == "::/48");
}

TEST_CASE("a block prints as it is written", "[base]") {
    CHECK(IpBlock::parse("10.0.0.0/8")->text() == "10.0.0.0/8");
    CHECK(IpBlock::parse("10.0.0.7")->text() == "10.0.0.7/32");
    CHECK(IpBlock::parse("2001:db8::/32")->text() == "2001:db8::/32");
}

}  // namespace
}  // namespace curvegate
