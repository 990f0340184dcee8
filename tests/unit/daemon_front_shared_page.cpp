#include "daemon/front/shared_page.hpp"

#include <catch2/catch.hpp>

namespace curvegate::daemon::front {
namespace {

using namespace std::chrono_literals;

/// A page with a number that grows, made when the test says so.
struct Source {
    std::vector<std::function<void(std::string)>> asked;
    SharedPage pages{[this](std::function<void(std::string)> done) { asked.push_back(std::move(done)); }};
    std::vector<SharedPage::Page> got;
    Instant at = Instant(1h);

    void ask() {
        pages.ask(at, [this](const SharedPage::Page& page) { got.push_back(page); });
    }
    void make(const std::string& text) { std::exchange(asked.back(), nullptr)(text); }
};

TEST_CASE("those who ask while a page is made share it", "[daemon][shared_page]") {
    Source source;
    source.ask();
    source.ask();
    CHECK(source.asked.size() == 1);
    CHECK(source.got.empty());
    source.make("one");
    REQUIRE(source.got.size() == 2);
    CHECK(*source.got[0] == "one");
    CHECK(source.got[0] == source.got[1]);
}

TEST_CASE("a page is fresh if nobody holds the last one, or it is a second old", "[daemon][shared_page]") {
    Source source;
    source.ask();
    source.make("one");
    SECTION("somebody holds it") {
        source.at += 999ms;
        source.ask();
        CHECK(source.asked.size() == 1);
        CHECK(source.got[0] == source.got[1]);
    }
    SECTION("nobody holds it") {
        source.got.clear();
        source.ask();
        REQUIRE(source.asked.size() == 2);
        source.make("two");
        CHECK(*source.got[0] == "two");
    }
    SECTION("it is old") {
        source.at += 1s;
        source.ask();
        REQUIRE(source.asked.size() == 2);
        source.make("two");
        CHECK(*source.got[1] == "two");
    }
}

}  // namespace
}  // namespace curvegate::daemon::front
