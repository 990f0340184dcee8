#include "os/file.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace curvegate::os {
namespace {

namespace fs = std::filesystem;

/// A folder that goes with the test.
struct Folder {
    fs::path path;
    Folder() {
        std::string name = (fs::temp_directory_path() / "curvegate-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~Folder() { fs::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
};

TEST_CASE("a folder's names are listed unless others may write there", "[os]") {
    const Folder folder;
    for (const auto* name : {"b", "a", ".c"}) std::ofstream(folder.path / name) << name;
    auto names = list_checked(folder.path);
    REQUIRE(names);
    REQUIRE(*names);
    std::ranges::sort(**names);
    CHECK(**names == std::vector<std::string>{".c", "a", "b"});
    CHECK_FALSE(*list_checked(folder.path / "a"));
    CHECK_FALSE(*list_checked(folder.path / "none"));
    for (const auto open : {fs::perms::group_write, fs::perms::others_write}) {
        fs::permissions(folder.path, fs::perms::owner_all | open);
        const auto refused = list_checked(folder.path);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().text().contains("run chmod go-w " + folder.path.string()));
    }
}

}  // namespace
}  // namespace curvegate::os
