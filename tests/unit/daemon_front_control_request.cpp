#include "daemon/front/control_request.hpp"

#include "base/exit_code.hpp"

#include <catch2/catch.hpp>

namespace curvegate::daemon::front {
namespace {

ControlWords words_of(std::string_view line) {
    const auto request = parse_control_request(line);
    REQUIRE(request);
    return *request;
}

TEST_CASE("a request is a verb and its words", "[daemon][control]") {
    CHECK(words_of("curvegate-control 1 reload") == ControlWords{"reload"});
    CHECK(words_of("curvegate-control 1 status watch 80 24") == ControlWords{"status", "watch", "80", "24"});
}

TEST_CASE("any white space parts the words, and none belongs to one", "[daemon][control]") {
    const ControlWords words = {"revoke", "alice"};
    CHECK(words_of("curvegate-control 1 revoke alice\r") == words);
    CHECK(words_of("\t curvegate-control\v1\f\frevoke \n alice  ") == words);
    using namespace std::string_view_literals;
    CHECK(words_of("curvegate-control 1 revoke a\0b \xff\xc2\xa0"sv) ==
          ControlWords{"revoke", std::string("a\0b", 3), "\xff\xc2\xa0"});
}

TEST_CASE("a line of another protocol is a wrong use", "[daemon][control]") {
    for (const std::string_view line :
         {"", "   ", "GET / HTTP/1.0", "curvegate-control", "curvegate-control 1", "curvegate-control 1 ",
          "curvegate-control 2", "1 curvegate-control reload", "curvegate-controls 1 reload",
          "Curvegate-Control 1 reload"}) {
        CAPTURE(line);
        const auto request = parse_control_request(line);
        REQUIRE_FALSE(request);
        CHECK(request.error().status == exit_code::kUsage);
        CHECK(request.error().why == "not a request of the control protocol");
    }
}

TEST_CASE("another version of the control protocol has a status of its own", "[daemon][control]") {
    for (const std::string_view version : {"2", "0", "01", "1.0", "11", "one"}) {
        CAPTURE(version);
        const auto request = parse_control_request("curvegate-control " + std::string(version) + " status");
        REQUIRE_FALSE(request);
        CHECK(request.error().status == exit_code::kProtocol);
        CHECK(request.error().why == "the daemon speaks version 1 of the control protocol");
    }
}

}  // namespace
}  // namespace curvegate::daemon::front
