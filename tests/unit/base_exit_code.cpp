#include "base/exit_code.hpp"

#include <sysexits.h>
#include <catch2/catch.hpp>

#include <algorithm>

namespace curvegate::exit_code {
namespace {

TEST_CASE("exit codes are those of sysexits.h", "[base]") {
    STATIC_REQUIRE(kUsage == EX_USAGE);
    STATIC_REQUIRE(kBadData == EX_DATAERR);
    STATIC_REQUIRE(kNoInput == EX_NOINPUT);
    STATIC_REQUIRE(kUnavailable == EX_UNAVAILABLE);
    STATIC_REQUIRE(kDefect == EX_SOFTWARE);
    STATIC_REQUIRE(kSystem == EX_OSERR);
    STATIC_REQUIRE(kCannotCreate == EX_CANTCREAT);
    STATIC_REQUIRE(kIoError == EX_IOERR);
    STATIC_REQUIRE(kProtocol == EX_PROTOCOL);
    STATIC_REQUIRE(kNoPermission == EX_NOPERM);
    STATIC_REQUIRE(kConfig == EX_CONFIG);
}

TEST_CASE("each program has its codes once, in rising order", "[base]") {
    const auto* const found = std::ranges::adjacent_find(kMeanings, [](const Meaning& a, const Meaning& b) {
        return a.program == b.program && a.code >= b.code;
    });
    CHECK(found == kMeanings.end());
}

}  // namespace
}  // namespace curvegate::exit_code
