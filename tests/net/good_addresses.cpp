#include "guard/good_addresses.hpp"

#include <catch2/catch.hpp>

namespace curvegate::guard {
namespace {

using namespace std::chrono_literals;
using Addresses = std::vector<ScopedIp>;

ScopedIp ip(const std::string& text) {
    return *IpAddress::parse(text);
}
const ScopedIp kA = ip("2001:db8::1");
const ScopedIp kB = ip("192.0.2.1");
const ScopedIp kC = ip("192.0.2.2");
const Instant kStart = Instant() + 1'000s;

TEST_CASE("the address that answered comes first, the others keep their order", "[net][dial]") {
    GoodAddresses good;
    CHECK(good.order("web", {kA, kB, kC}, kStart) == Addresses{kA, kB, kC});
    good.answered("web", kC, kStart);
    CHECK(good.order("web", {kA, kB, kC}, kStart) == Addresses{kC, kA, kB});
    CHECK(good.order("other", {kA, kB, kC}, kStart) == Addresses{kA, kB, kC});
    CHECK(good.order("web", {kA, kB}, kStart) == Addresses{kA, kB});  // the name does not have it any more
    good.answered("web", kB, kStart + 1s);
    CHECK(good.order("web", {kA, kB, kC}, kStart + 2s) == Addresses{kB, kA, kC});
}

TEST_CASE("the first choice is looked at again after a while, by one connection", "[net][dial]") {
    GoodAddresses good;
    good.answered("web", kB, kStart);
    Instant now = kStart + GoodAddresses::kLasts - 1ms;
    good.answered("web", kB, now);  // used all the time
    CHECK(good.order("web", {kA, kB}, now) == Addresses{kB, kA});
    now += 1ms;
    CHECK(good.order("web", {kA, kB}, now) == Addresses{kA, kB});
    CHECK(good.order("web", {kA, kB}, now) == Addresses{kB, kA});
    SECTION("it is silent still") {
        good.answered("web", kB, now + 250ms);
        CHECK(good.order("web", {kA, kB}, now + 1s) == Addresses{kB, kA});
        CHECK(good.order("web", {kA, kB}, now + GoodAddresses::kLasts) == Addresses{kA, kB});
    }
    SECTION("it answers again") {
        good.answered("web", kA, now);
        CHECK(good.order("web", {kA, kB}, now + 1s) == Addresses{kA, kB});
    }
}

TEST_CASE("what is remembered of addresses is bounded", "[net][dial]") {
    GoodAddresses good;
    for (std::size_t i = 0; i <= GoodAddresses::kMost; ++i)
        good.answered(std::to_string(i), kB, kStart + std::chrono::milliseconds(i));
    CHECK(good.order("0", {kA, kB}, kStart) == Addresses{kA, kB});  // the oldest has made room
    CHECK(good.order("1", {kA, kB}, kStart) == Addresses{kB, kA});
    CHECK(good.order(std::to_string(GoodAddresses::kMost), {kA, kB}, kStart) == Addresses{kB, kA});
}

}  // namespace
}  // namespace curvegate::guard
