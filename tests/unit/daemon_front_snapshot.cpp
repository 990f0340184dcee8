#include "daemon/front/snapshot.hpp"

#include "os/random.hpp"

#include <catch2/catch.hpp>

#include <algorithm>

/// What status shows of workers, sessions and counters.
namespace curvegate::daemon::front {
namespace {

std::string name_of(std::size_t service) {
    return "service-" + std::to_string(service);
}

/// A daemon with so many services.
struct Rig {
    config::Config config;
    registry::Registry registry{std::vector<registry::Entry>()};
    guard::Counters counters;
    os::SystemRandom random;
    std::shared_ptr<guard::Admission> admission =
        std::make_shared<guard::Admission>(guard::AdmissionLimits{}, random);
    std::vector<serve::Worker::Report> reports = std::vector<serve::Worker::Report>(2);

    explicit Rig(std::size_t services) {
        for (std::size_t i = 0; i < services; ++i) {
            config.services.emplace_back().name = name_of(i);
            config.services.back().connect.emplace_back();
        }
    }
    void add_session(std::size_t worker, const std::string& service, std::uint64_t in, std::uint64_t out) {
        auto& session = reports[worker].sessions.emplace_back();
        session.service = service;
        session.bytes_in = in;
        session.bytes_out = out;
    }
    status::Snapshot snapshot() {
        status::Snapshot out;
        fill(out, {config, registry, counters, *admission, reports});
        return out;
    }
};

TEST_CASE("the bytes of sessions are counted for their service, whoever serves them", "[daemon][snapshot]") {
    constexpr std::size_t kServices = 3'000;
    constexpr std::size_t kSessions = 30'000;
    Rig rig(kServices);
    for (std::size_t i = 0; i < kSessions; ++i)
        rig.add_session(i % 2, name_of(i % kServices), i % kServices, 1);
    rig.counters.service(name_of(7))->bytes_in = 1'000;
    const auto snapshot = rig.snapshot();
    REQUIRE(snapshot.services.size() == kServices);
    CHECK(std::ranges::all_of(snapshot.services, [&](const status::Service& service) {
        const auto number = static_cast<std::uint64_t>(&service - snapshot.services.data());
        const std::uint64_t ended = number == 7 ? 1'000 : 0;
        return service.name == name_of(number) && service.traffic.bytes_out == kSessions / kServices &&
               service.traffic.bytes_in == number * (kSessions / kServices) + ended;
    }));
}

TEST_CASE("a session whose service is gone counts for no other", "[daemon][snapshot]") {
    Rig rig(2);
    rig.add_session(0, "gone", 5, 6);
    rig.add_session(1, name_of(1), 7, 8);
    const auto snapshot = rig.snapshot();
    CHECK(snapshot.services[0].traffic.bytes_in == 0);
    CHECK(snapshot.services[1].traffic.bytes_in == 7);
    CHECK(snapshot.connections.size() == 2);
}

}  // namespace
}  // namespace curvegate::daemon::front
