#include "status/json.hpp"
#include "status/prometheus.hpp"
#include "status_samples.hpp"

#include <boost/json.hpp>
#include <catch2/catch.hpp>

#include <fstream>
#include <set>
#include <sstream>

namespace curvegate::status {
namespace {

using Names = std::set<std::string>;

/// The part of docs/CONTROL.md under a heading.
std::string section(const std::string& heading) {
    std::ostringstream text;
    text << std::ifstream(CURVEGATE_TESTS_DIR "/../docs/CONTROL.md").rdbuf();
    const auto all = text.str();
    const auto begin = all.find("\n### " + heading + "\n");
    if (begin == std::string::npos) return {};
    return all.substr(begin, all.find("\n##", begin + 5) - begin);
}

/// What stands in code marks in the first column of its tables.
Names documented(const std::string& text) {
    Names out;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("| `")) continue;
        const auto cell = line.substr(2, line.find(" |", 2) - 2);
        for (std::size_t at = 0; (at = cell.find('`', at)) != std::string::npos;) {
            const auto end = cell.find('`', at + 1);
            out.insert(cell.substr(at + 1, end - at - 1));
            at = end + 1;
        }
    }
    return out;
}

void add_keys(Names& to, const boost::json::object& object, const std::string& before = "") {
    for (const auto& [key, _] : object) to.insert(before + std::string(key));
}

TEST_CASE("docs/CONTROL.md lists the keys of the JSON status, and no others", "[status]") {
    const auto status = boost::json::parse(render_json(small_snapshot())).as_object();
    Names keys;
    add_keys(keys, status);
    for (const auto* list : {"services", "peers", "connections", "server_keys"})
        add_keys(keys, status.at(list).as_array().at(0).as_object());
    keys.erase("vault");
    add_keys(keys, status.at("vault").as_object(), "vault.");
    keys.erase("limits");
    add_keys(keys, status.at("limits").as_object(), "limits.");
    add_keys(keys, status.at("services").as_array().at(0).at("limits").as_object(), "limits.");
    add_keys(keys, status.at("services").as_array().at(0).at("targets").as_array().at(0).as_object());
    CHECK(documented(section("Status as JSON")) == keys);
}

TEST_CASE("docs/CONTROL.md lists the metrics, and no others", "[status]") {
    Names metrics;
    std::istringstream lines(render_prometheus(small_snapshot()));
    const std::string mark = "# TYPE ";
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with(mark)) metrics.insert(line.substr(mark.size(), line.rfind(' ') - mark.size()));
    }
    CHECK(documented(section("Metrics")) == metrics);
}

}  // namespace
}  // namespace curvegate::status
