#pragma once

#include "config/config.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace curvegate::config {

inline const std::string kHead = "known-hosts = /k\n";

inline std::string told(const Problem& problem) {
    return std::to_string(problem.line) + ": " + problem.text;
}

/// "LINE: TEXT" for each problem; empty if the text is good.
inline std::vector<std::string> problems_of(const std::string& text) {
    std::vector<std::string> out;
    const auto parsed = parse(text, "f.conf");
    if (parsed) return out;
    for (const auto& problem : parsed.error()) {
        CHECK(problem.file == "f.conf");
        out.push_back(told(problem));
    }
    return out;
}

inline std::vector<std::string> warnings_of(const std::string& text) {
    std::vector<std::string> out;
    const auto parsed = parse(text, "f.conf");
    REQUIRE(parsed);
    for (const auto& warning : parsed->warnings) out.push_back(told(warning));
    return out;
}

inline Config good(const std::string& text) {
    const auto parsed = parse(text, "f.conf");
    CHECK(problems_of(text) == std::vector<std::string>());
    REQUIRE(parsed);
    return parsed->config;
}

}  // namespace curvegate::config
