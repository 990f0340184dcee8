#include "config/keys.hpp"

#include <catch2/catch.hpp>

#include <fstream>
#include <regex>
#include <sstream>

namespace curvegate::config {
namespace {

std::string content_of(const std::string& name) {
    const std::ifstream file(std::string(CURVEGATE_TESTS_DIR) + "/../" + name);
    std::ostringstream text;
    text << file.rdbuf();
    REQUIRE(file.good());
    return text.str();
}

std::string example() {
    return content_of("conf/curvegate.conf");
}

TEST_CASE("the reference names every key of the file", "[config]") {
    const std::string reference = content_of("docs/REFERENCE.md");
    for (const Key& key : all_keys()) {
        CAPTURE(key.name);
        CHECK_THAT(reference, Catch::Matchers::Contains("`" + std::string(key.name) + "`"));
    }
}

TEST_CASE("the example configuration is good as it is", "[config]") {
    const auto parsed = parse(example(), "curvegate.conf");
    REQUIRE(parsed);
    CHECK(parsed->config.services.size() == 2);
    CHECK(parsed->warnings.empty());
}

TEST_CASE(
    "the settings that the example shows behind a ; are good too, and are the defaults they claim to be",
    "[config]") {
    const auto plain = parse(example(), "curvegate.conf");
    const auto all =
        parse(std::regex_replace(example(), std::regex("\n;(\\[|[a-z-]+ *=)"), "\n$1"), "curvegate.conf");
    REQUIRE(plain);
    REQUIRE(all);
    const Config& a = plain->config;
    const Config& b = all->config;
    REQUIRE(b.services.size() == 10);
    CHECK(all->warnings.empty());
    CHECK(b.services[3].accept == b.services[4].accept);
    CHECK(b.services[5].server_name == b.services[3].server_name);
    CHECK(b.services[6].server_name == b.services[4].server_name);
    CHECK(b.services[7].failover == a.services[1].failover);
    CHECK(b.services[9].accept.kind == Address::Kind::none);
    CHECK(b.state_dir == "/var/lib/curvegate");
    CHECK(a.workers == b.workers);
    CHECK(a.log_level == b.log_level);
    CHECK(a.log_format == b.log_format);
    CHECK(a.log_addresses == b.log_addresses);
    CHECK(a.audit_required == b.audit_required);
    CHECK(a.sandbox == b.sandbox);
    CHECK(a.lock_memory == b.lock_memory);
    CHECK(a.timeouts.hello == b.timeouts.hello);
    CHECK(a.timeouts.vouch == b.timeouts.vouch);
    CHECK(a.timeouts.vault == b.timeouts.vault);
    CHECK(a.timeouts.drain == b.timeouts.drain);
    CHECK(a.admission.handshake_rate == b.admission.handshake_rate);
    CHECK(a.admission.handshake_burst == b.admission.handshake_burst);
    CHECK(a.admission.half_open_per_source == b.admission.half_open_per_source);
    CHECK(a.admission.half_open == b.admission.half_open);
    CHECK(a.services[0].end_of_stream == b.services[0].end_of_stream);
    CHECK(a.services[1].peer == b.services[1].peer);
    CHECK(a.services[1].server_extension == b.services[1].server_extension);
    CHECK(a.services[1].client_extension == b.services[1].client_extension);
    CHECK(a.services[1].limits.flow_idle == b.services[1].limits.flow_idle);
    CHECK(a.services[1].limits.flows == b.services[1].limits.flows);
    const service::Limits& x = a.services[0].limits;
    const service::Limits& y = b.services[0].limits;
    CHECK(x.connect_timeout == y.connect_timeout);
    CHECK(x.idle_timeout == y.idle_timeout);
    CHECK(x.dead_peer == y.dead_peer);
    CHECK(x.max_session == y.max_session);
    CHECK(x.sessions_per_peer == y.sessions_per_peer);
    CHECK(x.sessions_per_source == y.sessions_per_source);
    CHECK(x.sessions_per_service == y.sessions_per_service);
    CHECK(a.sessions == b.sessions);
}

}  // namespace
}  // namespace curvegate::config
