#include "daemon/front/resolver.hpp"

#include "support/loop.hpp"

#include <catch2/catch.hpp>

#include <optional>
#include <vector>

namespace curvegate::daemon::front {
namespace {

using Addresses = std::vector<ScopedIp>;

/// A name that is asked for, and the parent in the test's hands.
struct Rig {
    asio::io_context context;
    std::vector<ToParent> asked;
    ParentResolver resolver{context, [this](const ToParent& message) { asked.push_back(message); }};

    Result<Addresses> answer(NameAnswer answer) {
        std::optional<Result<Addresses>> told;
        resolver.resolve(context, "gate.example",
                         [&told](Result<Addresses> result) { told.emplace(std::move(result)); });
        test::run_ready(context);
        REQUIRE(asked.size() == 1);
        const auto* ask = std::get_if<to_parent::Resolve>(&asked.front());
        REQUIRE(ask != nullptr);
        CHECK(ask->host == "gate.example");
        CHECK_FALSE(told.has_value());
        resolver.resolved({ask->id, std::move(answer)});
        test::run_ready(context);
        REQUIRE(told.has_value());
        return std::move(*told);
    }
};

TEST_CASE("a worker gets the addresses that the parent found", "[daemon][names]") {
    Rig rig;
    const Addresses found = {*IpAddress::parse("192.0.2.1"), *IpAddress::parse("2001:db8::1")};
    CHECK(rig.answer({NameOutcome::found, found}).value() == found);
}

TEST_CASE("why a name has no addresses is told to the worker as an error of its dial", "[daemon][names]") {
    using io::DialErrc;
    for (const auto& [outcome, why] : {std::pair{NameOutcome::unknown, DialErrc::name_unknown},
                                       {NameOutcome::no_answer, DialErrc::name_unanswered},
                                       {NameOutcome::busy, DialErrc::names_busy},
                                       {NameOutcome::own_lack, DialErrc::own_lack}}) {
        Rig rig;
        const auto told = rig.answer({outcome, {}});
        INFO(describe(why));
        REQUIRE_FALSE(told.has_value());
        CHECK(told.error().is(why));
        CHECK(told.error().detail() == "gate.example");
    }
}

}  // namespace
}  // namespace curvegate::daemon::front
