#include "config/include.hpp"
#include "config_support.hpp"

#include <algorithm>
#include <map>

namespace curvegate::config {
namespace {

using Texts = std::vector<std::string>;

const std::string kMain =
    "known-hosts = /k\nidle-timeout = 5m\ninclude = /d\ninclude = /one\n"
    "[main]\naccept = curve_tun:127.0.0.1:1\nconnect = 127.0.0.1:2\nallow = a\n";

std::string section(const std::string& name, int port) {
    return "[" + name + "]\naccept = curve_tun:127.0.0.1:" + std::to_string(port) +
           "\nconnect = 127.0.0.1:2\nallow = a\n";
}

/// Files and folders that are not there but here.
struct Disk {
    std::map<std::string, std::string> files;
    std::map<std::string, Texts> folders;

    [[nodiscard]] Reach reach() const {
        return {[this](const std::string& path) -> std::expected<std::string, std::string> {
                    const auto found = files.find(path);
                    if (found == files.end()) return std::unexpected(path + ": not there");
                    return found->second;
                },
                [this](const std::string& path) -> std::expected<std::optional<Texts>, std::string> {
                    if (path == "/open") return std::unexpected("/open: others may write there");
                    const auto found = folders.find(path);
                    return found == folders.end() ? std::optional<Texts>() : found->second;
                }};
    }
};

Texts messages(const Problems& problems) {
    Texts out;
    for (const auto& problem : problems) out.push_back(problem.message());
    return out;
}

/// What is wrong with a configuration of these files.
Texts told(const std::vector<Source>& sources) {
    const auto parsed = parse(sources);
    return parsed ? Texts() : messages(parsed.error());
}

TEST_CASE("included files come after the main one, those of a folder by their names", "[config][include]") {
    const Disk disk{{{"/one", "1"}, {"/d/b.conf", "b"}, {"/d/a.conf", "a"}, {"/d/10.conf", "10"}},
                    {{"/d", {"b.conf", "note.txt", ".hidden.conf", "a.conf", "10.conf", "a.conf~"}},
                     {"/d/", {"10.conf"}}}};
    const auto sources = gather({"/m", kMain}, disk.reach());
    REQUIRE(sources);
    CHECK(*sources ==
          std::vector<Source>{
              {"/m", kMain}, {"/d/10.conf", "10"}, {"/d/a.conf", "a"}, {"/d/b.conf", "b"}, {"/one", "1"}});
    CHECK(gather({"/m", "include = /d/\n"}, disk.reach())->at(1).file == "/d/10.conf");
}

TEST_CASE("only includes among the globals of the main file are followed", "[config][include]") {
    const Disk disk{{{"/one", "include = /two\n"}, {"/two", ""}}, {}};
    CHECK(gather({"/m", "include = /one\n[a]\ninclude = /two\n"}, disk.reach())->size() == 2);
    CHECK(gather({"/m", "include = one\n;include = /two\n"}, disk.reach())->size() == 1);
}

TEST_CASE("a file that cannot be read is told at its include", "[config][include]") {
    const Disk disk{{{"/d/a.conf", ""}}, {{"/d", {"a.conf", "b.conf"}}}};
    const auto sources = gather({"/m", "\ninclude = /d\ninclude = /none\ninclude = /open\n"}, disk.reach());
    REQUIRE_FALSE(sources);
    CHECK(messages(sources.error()) == Texts{"/m:2: include: /d/b.conf: not there",
                                             "/m:3: include: /none: not there",
                                             "/m:4: include: /open: others may write there"});
}

TEST_CASE("files are bounded in number and in size", "[config][include]") {
    Disk disk;
    for (std::size_t i = 0; i < kMostFiles; ++i) {
        disk.folders["/d"].push_back(std::to_string(i) + ".conf");
        disk.files["/d/" + std::to_string(i) + ".conf"] = "";
    }
    CHECK_FALSE(gather({"/m", "include = /d\n"}, disk.reach()));
    disk.folders["/d"].pop_back();
    CHECK(gather({"/m", "include = /d\n"}, disk.reach()));
    disk.files["/big"] = std::string(kMostText, ' ');
    CHECK_FALSE(gather({"/m", "include = /big\n"}, disk.reach()));
}

TEST_CASE("sections of all files are services, with the globals of the main one", "[config][include]") {
    const auto parsed = parse(
        {{"/m", kMain}, {"/d/a.conf", section("a", 3) + "idle-timeout = 7m\n"}, {"/one", section("b", 4)}});
    REQUIRE(parsed);
    const auto& services = parsed->config.services;
    REQUIRE(services.size() == 3);
    CHECK(services[1].name == "a");
    CHECK(services[1].limits.idle_timeout == std::chrono::minutes(7));
    CHECK(services[2].limits.idle_timeout == std::chrono::minutes(5));
    CHECK(parsed->config.line_text(services[1].line) == "/d/a.conf:1");
    CHECK(parsed->config.line_text(services[0].line) == "/m:5");
    CHECK(parse(kMain, "/m")->config.line_text(5) == "line 5");
}

TEST_CASE("a main file may have no section of its own", "[config][include]") {
    CHECK(told({{"/m", "known-hosts = /k\n"}, {"/one", section("a", 3)}}).empty());
    CHECK(told({{"/m", "known-hosts = /k\n"}, {"/one", "; nothing\n"}}) ==
          Texts{"/m: no [section]: a file has one for each service"});
}

TEST_CASE("problems name the file and its line", "[config][include]") {
    CHECK(
        told({{"/m", kMain}, {"/one", "\n\nidle-timeout = 5m\n" + section("a", 3)}}) ==
        Texts{"/one:3: \"idle-timeout\" stands above the first [section] of an included file: globals stand "
              "in /m alone"});
    CHECK(told({{"/m", kMain}, {"/one", "include = /two\n"}}) ==
          Texts{"/one:1: an included file includes no other: name both in /m"});
    CHECK(told({{"/m", kMain}, {"/one", section("a", 3) + "include = /two\n"}}) ==
          Texts{"/one:5: an included file includes no other: name both in /m"});
    CHECK(told({{"/m", kMain}, {"/one", section("a", 3) + "what = ever\n"}, {"/two", "[b\n"}}) ==
          Texts{"/one:5: unknown key \"what\"",
                "/two:1: the ] is missing: a section begins with a line [name]"});
    CHECK(told({{"/m", kMain}, {"/one", "\n" + section("main", 3)}}) ==
          Texts{"/one:2: [main] stands twice: first in /m:5"});
    CHECK(told({{"/m", kMain}, {"/one", section("a", 1)}}) ==
          Texts{"/one:2: accept: curve_tun:127.0.0.1:1 is taken by [main] at /m:6"});
    CHECK(told({{"/m", kMain + "zzz = 1\n"}, {"/one", section("a", 3) + section("a", 4)}}) ==
          Texts{"/m:9: unknown key \"zzz\"", "/one:5: [a] stands twice: first in /one:1"});
}

TEST_CASE("warnings name the file too", "[config][include]") {
    const auto parsed =
        parse({{"/m", kMain}, {"/one", "[x]\naccept = curve_tun:[::]:3\nconnect = 127.0.0.1:2\n"}});
    REQUIRE(parsed);
    REQUIRE(parsed->warnings.size() == 1);
    CHECK(parsed->warnings[0].message().starts_with("/one:1: nobody may use [x]"));
}

TEST_CASE("packed files come out as they were", "[config][include]") {
    const std::vector<Source> sources = {{"/m", kMain}, {"", ""}, {"/x", std::string("\0\xff\n", 3)}};
    const std::string packed = pack(sources);
    CHECK(*unpack(packed) == sources);
    for (std::size_t size = 0; size < packed.size(); ++size) {
        const auto part = unpack(std::string_view(packed).substr(0, size));
        // Cut between two files it is a shorter list, and nowhere else one.
        CHECK((!part || pack(*part).size() == size));
    }
    CHECK_FALSE(unpack(packed + "x"));
    CHECK_FALSE(unpack(""));
}

}  // namespace
}  // namespace curvegate::config
