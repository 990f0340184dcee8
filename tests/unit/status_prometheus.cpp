#include "status/prometheus.hpp"
#include "status_samples.hpp"

#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace curvegate::status {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
}

/// The samples of a family, which HELP and TYPE stand before.
std::string family(const std::string& page, const std::string& name) {
    const auto begin = page.find("# HELP curvegate_" + name + " ");
    if (begin == std::string::npos) return "not there";
    const auto end = page.find("# HELP ", begin + 1);
    std::string out;
    for (const auto& line : lines_of(page.substr(begin, end - begin)))
        if (!line.starts_with("# HELP")) out += line + "\n";
    return out;
}

TEST_CASE("services and peers are labels, what was never seen is absent", "[status]") {
    const auto page = render_prometheus(small_snapshot());
    CHECK(family(page, "build_info") ==
          "# TYPE curvegate_build_info gauge\ncurvegate_build_info{version=\"0.1.0\"} 1\n");
    CHECK(family(page, "uptime_seconds") ==
          "# TYPE curvegate_uptime_seconds gauge\ncurvegate_uptime_seconds 100000.250\n");
    CHECK(family(page, "config_generation") ==
          "# TYPE curvegate_config_generation gauge\ncurvegate_config_generation 7\n");
    CHECK(family(page, "config_last_reload_success_timestamp_seconds") ==
          "# TYPE curvegate_config_last_reload_success_timestamp_seconds gauge\n"
          "curvegate_config_last_reload_success_timestamp_seconds 1795345200\n");
    CHECK(family(page, "service_info") ==
          "# TYPE curvegate_service_info gauge\n"
          "curvegate_service_info{service=\"dns\",side=\"client\",wire=\"curvecp\"} 1\n"
          "curvegate_service_info{service=\"web\",side=\"server\",wire=\"curve_tun\"} 1\n");
    CHECK(family(page, "connections") ==
          "# TYPE curvegate_connections gauge\n"
          "curvegate_connections{service=\"dns\"} 0\ncurvegate_connections{service=\"web\"} 2\n");
    CHECK(family(page, "connections_total") ==
          "# TYPE curvegate_connections_total counter\n"
          "curvegate_connections_total{service=\"dns\"} 5\ncurvegate_connections_total{service=\"web\"} "
          "1204\n");
    CHECK(family(page, "bytes_total") ==
          "# TYPE curvegate_bytes_total counter\n"
          "curvegate_bytes_total{service=\"dns\",direction=\"in\"} 0\n"
          "curvegate_bytes_total{service=\"dns\",direction=\"out\"} 0\n"
          "curvegate_bytes_total{service=\"web\",direction=\"in\"} 3072\n"
          "curvegate_bytes_total{service=\"web\",direction=\"out\"} 1024\n");
    CHECK(family(page, "target_up") ==
          "# TYPE curvegate_target_up gauge\n"
          "curvegate_target_up{service=\"dns\",target=\"curvecp:server.example:4433\"} 0\n"
          "curvegate_target_up{service=\"web\",target=\"127.0.0.1:8080\"} 1\n");
    CHECK(family(page, "peer_up") ==
          "# TYPE curvegate_peer_up gauge\n"
          "curvegate_peer_up{peer=\"laptop\"} 1\ncurvegate_peer_up{peer=\"phone\"} 0\n");
    CHECK(family(page, "peer_last_handshake_timestamp_seconds") ==
          "# TYPE curvegate_peer_last_handshake_timestamp_seconds gauge\n"
          "curvegate_peer_last_handshake_timestamp_seconds{peer=\"laptop\"} 1795348710\n");
    CHECK(family(page, "sessions") == "# TYPE curvegate_sessions gauge\ncurvegate_sessions 2\n");
    CHECK(family(page, "handshakes_total") ==
          "# TYPE curvegate_handshakes_total counter\n"
          "curvegate_handshakes_total{result=\"ok\",reason=\"\"} 1205\n"
          "curvegate_handshakes_total{result=\"refused\",reason=\"client is not authorised\"} 2\n"
          "curvegate_handshakes_total{result=\"refused\",reason=\"no hello in time\"} 1\n");
    CHECK(family(page, "cookie_key_age_seconds") ==
          "# TYPE curvegate_cookie_key_age_seconds gauge\ncurvegate_cookie_key_age_seconds 42.000\n");
}

TEST_CASE("a failed reload and a drain show", "[status]") {
    auto snapshot = small_snapshot();
    CHECK(render_prometheus(snapshot).contains("\ncurvegate_config_last_reload_successful 1\n"));
    CHECK(render_prometheus(snapshot).contains("\ncurvegate_draining 0\n"));
    snapshot.reload_error = "curvegate.conf:1: no";
    snapshot.draining = true;
    const auto page = render_prometheus(snapshot);
    CHECK(page.contains("\ncurvegate_config_last_reload_successful 0\n"));
    CHECK(page.contains("\ncurvegate_draining 1\n"));
    CHECK_FALSE(page.contains("curvegate.conf"));
}

TEST_CASE("no address but those of connect, and no key is on the page", "[status]") {
    const auto page = render_prometheus(small_snapshot());
    for (const std::string_view text : {"192.0.2.7", "2001:db8", "0.0.0.0", "oQ1W3", "udp:127.0.0.1"})
        CHECK_FALSE(page.contains(text));
}

TEST_CASE("a page has every family once and every series once", "[status]") {
    for (const auto& snapshot : {Snapshot{}, small_snapshot(), hostile_snapshot()}) {
        std::set<std::string> seen;
        const auto page = render_prometheus(snapshot);
        CHECK(page.ends_with('\n'));
        for (const auto& line : lines_of(page)) {
            CAPTURE(line);
            CHECK((line.starts_with("# HELP curvegate_") || line.starts_with("# TYPE curvegate_") ||
                   line.starts_with("curvegate_")));
            const auto key = line.starts_with('#') ? line : line.substr(0, line.rfind(' '));
            CHECK(seen.insert(key).second);
        }
    }
}

TEST_CASE("hostile names are escaped, and those that look the same are one series", "[status]") {
    const auto page = render_prometheus(hostile_snapshot());
    const std::string label = "a\xef\xbf\xbd[2J\\\"\\\\\\n\xef\xbf\xbd\xef\xbf\xbd}";
    CHECK(family(page, "connections") ==
          "# TYPE curvegate_connections gauge\ncurvegate_connections{service=\"" + label + "\"} 0\n");
    CHECK(family(page, "peer_connections") ==
          "# TYPE curvegate_peer_connections gauge\ncurvegate_peer_connections{peer=\"*\"} 2\n"
          "curvegate_peer_connections{peer=\"" +
              label + "\"} 18446744073709551615\n");
    for (const char c : page) CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n'));
}

TEST_CASE("promtool accepts the page", "[status]") {
    if (std::system("command -v promtool >/dev/null 2>&1") != 0) {
        WARN("SKIPPED: promtool is missing (Debian package prometheus)");
        return;
    }
    namespace fs = std::filesystem;
    std::string folder = (fs::temp_directory_path() / "curvegate-metrics.XXXXXX").string();
    REQUIRE(::mkdtemp(folder.data()) != nullptr);
    const auto verdict_on = [&](const std::string& page) {
        std::ofstream(folder + "/page", std::ios::binary) << page;
        const int status = std::system(
            ("promtool check metrics < " + folder + "/page > " + folder + "/verdict 2>&1").c_str());
        std::ostringstream text;
        text << std::ifstream(folder + "/verdict").rdbuf();
        return std::pair(status, text.str());
    };
    for (const auto& snapshot : {Snapshot{}, small_snapshot(), hostile_snapshot()})
        CHECK(verdict_on(render_prometheus(snapshot)) == std::pair(0, std::string()));
    CHECK(verdict_on("# TYPE curvegate_x counter\ncurvegate_x 1\n").first != 0);
    CHECK(verdict_on("curvegate_x{a=\"\xff\"} 1\n").first != 0);
    fs::remove_all(folder);
}

}  // namespace
}  // namespace curvegate::status
