#include "config/descriptors.hpp"

#include "config_support.hpp"

#include <catch2/catch.hpp>

namespace curvegate::config {
namespace {

Config config_of(const std::string& sections, const std::string& globals = {}) {
    auto parsed =
        parse("server-key = /k\nclient-key = /c\nknown-hosts = /h\n" + globals + sections, "test.conf");
    REQUIRE(parsed.has_value());
    return std::move(parsed->config);
}

constexpr auto kServer = "[web]\naccept = curve_tun:127.0.0.1:1\nconnect = 127.0.0.1:2\nallow = a\n";
constexpr auto kUdpServer = "[web]\naccept = curvecp:127.0.0.1:1\nconnect = 127.0.0.1:2\nallow = a\n";
constexpr auto kFlows =
    "[dns]\nclient = yes\naccept = udp:127.0.0.1:3\nconnect = curve_tun:a:4\nflows = 70\n";

TEST_CASE("each kind of limit counts with the descriptors that it takes", "[config][descriptors]") {
    const std::string globals = "sessions = 1000\nhalf-open = 300\n";
    const auto tcp = descriptors_of(config_of(kServer, globals), 2, 192);
    CHECK(tcp.own == 32 + 2 * 4 + 192);
    CHECK(tcp.listening == 2);
    CHECK(tcp.half_open == 300);
    CHECK(tcp.sessions == 2'000);
    CHECK(tcp.flows == 0);
    CHECK(tcp.sum() == 232 + 2 + 300 + 2'000);
    const auto udp = descriptors_of(config_of(kUdpServer, globals), 2, 192);
    CHECK(udp.half_open == 0);  // a handshake over udp has no socket
    CHECK(udp.listening == 4);
    const auto flows = descriptors_of(config_of(kFlows, globals), 2, 192);
    CHECK(flows.flows == 70);
    CHECK(flows.sessions == 0);
}

TEST_CASE("limits that fit stay as they are and nothing is said", "[config][descriptors]") {
    Config config = config_of(kServer, "sessions = 1000\nhalf-open = 300\n");
    CHECK_FALSE(fit_to_descriptors(config, 2, 2'534, 192).has_value());
    CHECK(config.sessions == 1'000);
    CHECK(config.admission.half_open == 300);
}

TEST_CASE("the defaults fit what systemd gives", "[config][descriptors]") {
    Config config = config_of(std::string(kServer) + kFlows);
    CHECK_FALSE(fit_to_descriptors(config, 64, 524'288, 192).has_value());
}

TEST_CASE("limits that cannot be held are lowered, and the words say to what and how many would do",
          "[config][descriptors]") {
    Config config = config_of(std::string(kServer) + kFlows, "sessions = 1000\nhalf-open = 900\n");
    const auto told = fit_to_descriptors(config, 2, 1'236, 192);  // room for 1,000
    REQUIRE(told.has_value());
    CHECK(config.sessions == 500);
    CHECK(config.admission.half_open == 500);
    CHECK(config.services[1].limits.flows == 70);
    CHECK(told->contains("limit of descriptors is 1236"));
    CHECK(told->contains("sessions is lowered to 500, half-open is lowered to 500;"));
    CHECK(told->contains("LimitNOFILE=3206 "));
}

TEST_CASE("no limit is lowered to nothing", "[config][descriptors]") {
    Config config = config_of(std::string(kServer) + kFlows);
    REQUIRE(fit_to_descriptors(config, 2, 20, 2).has_value());
    CHECK(config.sessions == 1);
    CHECK(config.admission.half_open == 1);
    CHECK(config.services[1].limits.flows == 1);
}

}  // namespace
}  // namespace curvegate::config
