#include "base/problem.hpp"
#include "base/result.hpp"
#include "crypto/errors.hpp"
#include "session/errors.hpp"
#include "wire/errors.hpp"

#include <catch2/catch.hpp>

namespace curvegate {
namespace {

TEST_CASE("an error knows its code, and no code of another layer", "[base]") {
    const Error error = wire::Errc::wrong_magic;  // 2, as crypto::Errc::box_does_not_open
    CHECK(error.is(wire::Errc::wrong_magic));
    CHECK_FALSE(error.is(wire::Errc::wrong_length));
    CHECK_FALSE(error.is(crypto::Errc::box_does_not_open));
    CHECK_FALSE(error.is(session::Errc::box_does_not_open));
    CHECK(error.layer() == "wire");
    CHECK(error.text() == "not a packet of this protocol");
}

TEST_CASE("a detail stands in front of the words", "[base]") {
    const Error error(crypto::Errc::bad_key_text, "known_hosts:3");
    CHECK(error.detail() == "known_hosts:3");
    CHECK(error.text() == "known_hosts:3: " + std::string(error.what()));
}

TEST_CASE("a failure is handed on as it is", "[base]") {
    const auto inner = []() -> Result<int> { return fail(wire::Errc::wrong_length, "here"); };
    const auto outer = [&]() -> Result<std::string> {
        auto got = inner();
        return fail(std::move(got));
    }();
    REQUIRE_FALSE(outer.has_value());
    CHECK(outer.error().is(wire::Errc::wrong_length));
    CHECK(outer.error().detail() == "here");
}

TEST_CASE("a problem names file and line", "[base]") {
    CHECK(Problem{"f", 3, "no"}.message() == "f:3: no");
    CHECK(Problem{"f", 0, "no"}.message() == "f: no");
}

}  // namespace
}  // namespace curvegate
