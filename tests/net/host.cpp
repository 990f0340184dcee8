#include "io/host.hpp"

#include <catch2/catch.hpp>

namespace curvegate::io {
namespace {

std::vector<ScopedIp> addresses(const std::vector<std::string>& texts) {
    std::vector<ScopedIp> out;
    for (const std::string& text : texts) out.emplace_back(*IpAddress::parse(text));
    return out;
}

TEST_CASE("the two families are tried by turns", "[net][host]") {
    CHECK(worth_trying(addresses({"2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"})) ==
          addresses({"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"}));
    CHECK(worth_trying(addresses({"192.0.2.1", "192.0.2.1", "2001:db8::1"})) ==
          addresses({"192.0.2.1", "2001:db8::1"}));
    CHECK(worth_trying({}).empty());
}

TEST_CASE("many addresses of one family do not push the other out", "[net][host]") {
    std::vector<std::string> texts;
    for (int i = 1; i <= 40; ++i) texts.push_back("2001:db8::" + std::to_string(i));
    texts.emplace_back("192.0.2.1");
    const auto out = worth_trying(addresses(texts));
    CHECK(out.size() == kMostAddresses);
    CHECK(out[1] == ScopedIp(*IpAddress::parse("192.0.2.1")));
}

TEST_CASE("a link-local address is tried with its interface alone", "[net][host]") {
    const ScopedIp with(*IpAddress::parse("fe80::1"), 2);
    auto found = addresses({"fe80::1", "192.0.2.1"});
    found.push_back(with);
    CHECK(worth_trying(found) == std::vector{ScopedIp(*IpAddress::parse("192.0.2.1")), with});
    CHECK(worth_trying(addresses({"fe80::1"})).empty());
}

}  // namespace
}  // namespace curvegate::io
