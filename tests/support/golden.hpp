#pragma once

#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace curvegate::test {

inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
}

/// Fails with the lines that differ. CURVEGATE_UPDATE_GOLDEN=1 writes the file anew: read the difference
/// before committing it. `file` is a path below tests/.
inline void compare_with_golden(const std::string& file, const std::string& actual) {
    const std::string path = std::string(CURVEGATE_TESTS_DIR) + "/" + file;
    if (std::getenv("CURVEGATE_UPDATE_GOLDEN") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
        std::ofstream(path) << actual;
        WARN(path << " was written anew");
        return;
    }
    std::ifstream in(path);
    REQUIRE(in.is_open());
    const std::string expected((std::istreambuf_iterator<char>(in)), {});
    const auto was = lines_of(expected);
    const auto is = lines_of(actual);
    std::string difference;
    for (std::size_t i = 0; i < std::max(was.size(), is.size()); ++i) {
        if (i < was.size() && i < is.size() && was[i] == is[i]) continue;
        if (i < was.size()) difference += "- " + was[i] + "\n";
        if (i < is.size()) difference += "+ " + is[i] + "\n";
    }
    INFO(path << "\n" << difference);
    CHECK(difference.empty());
}

}  // namespace curvegate::test
