#include "os/activation.hpp"

#include <catch2/catch.hpp>

namespace curvegate::os {
namespace {

using Names = std::vector<std::string>;

TEST_CASE("each descriptor that was passed has a name", "[os][activation]") {
    CHECK(*passed_names({"7", "1", "web"}, 7) == Names{"web"});
    CHECK(*passed_names({"7", "3", "web:web:dns"}, 7) == Names{"web", "web", "dns"});
    CHECK(*passed_names({"7", "2", ""}, 7) == Names{"unknown", "unknown"});
    CHECK(*passed_names({"7", "2", "a:"}, 7) == Names{"a", ""});
    CHECK(passed_names({"7", "0", ""}, 7)->empty());
}

TEST_CASE("what was passed to another process, or to none, is not ours", "[os][activation]") {
    CHECK(passed_names({"8", "1", "web"}, 7)->empty());
    CHECK(passed_names({"6", "1", "web"}, 7)->empty());
    CHECK(passed_names({"", "", ""}, 7)->empty());
    CHECK(passed_names({"7", "", ""}, 7)->empty());
    CHECK(passed_names({"", "1", "web"}, 7)->empty());
}

TEST_CASE("a list of descriptors that cannot be is refused", "[os][activation]") {
    for (const ListenVariables& variables : std::vector<ListenVariables>{{"7", "x", ""},
                                                                         {"7", "-1", ""},
                                                                         {"7", "1x", ""},
                                                                         {"7", "99999999999", ""},
                                                                         {"7", "1000000", ""},
                                                                         {"seven", "1", ""},
                                                                         {"7", "2", "web"},
                                                                         {"7", "1", "web:dns"}}) {
        CAPTURE(variables.pid, variables.fds, variables.names);
        const auto names = passed_names(variables, 7);
        REQUIRE_FALSE(names);
        CHECK(names.error().is(ActivationErrc::malformed));
    }
}

}  // namespace
}  // namespace curvegate::os
