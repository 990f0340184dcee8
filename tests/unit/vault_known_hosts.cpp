#include "support/descriptors.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/known_hosts_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

namespace curvegate::vault {
namespace {

crypto::PublicKey peer(Byte fill) {
    return test::key_of(KeyRole::server, fill).public_key;
}

struct World {
    World() : path(folder.file("known_hosts")) { put(line(1)); }
    static std::string line(Byte fill) { return "server.example curve25519 " + peer(fill).text() + "\n"; }
    /// As `curvegate peers` does: a new file in the old one's place.
    void put(const std::string& content) const {
        test::write_file(path + ".new", content);
        REQUIRE(std::rename((path + ".new").c_str(), path.c_str()) == 0);
    }
    [[nodiscard]] auto open() {
        return KnownHostsFile::open(path, [this](std::string_view text) { lines.emplace_back(text); });
    }
    test::TemporaryFolder folder;
    std::string path;
    std::vector<std::string> lines;
};

TEST_CASE("the vault trusts the servers in known_hosts") {
    World world;
    const auto file = world.open().value();
    CHECK(file->is_listed(peer(1), WallTime{}));
    CHECK_FALSE(file->is_listed(peer(2), WallTime{}));
    CHECK(world.lines.empty());
}

TEST_CASE("a known_hosts that was replaced is read again, once") {
    World world;
    const auto file = world.open().value();
    world.put(World::line(2));
    CHECK(file->is_listed(peer(2), WallTime{}));
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    CHECK(world.lines.size() == 1);
}

TEST_CASE("a key that is revoked or expired in known_hosts gets no vouch") {
    World world;
    const auto file = world.open().value();
    world.put(World::line(1) + "@revoked " + World::line(1));
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    world.put("valid-until=2030-01-01 " + World::line(1));
    const WallTime end = std::chrono::sys_days{std::chrono::year{2030} / 1 / 2};
    CHECK(file->is_listed(peer(1), end - std::chrono::seconds(1)));
    CHECK_FALSE(file->is_listed(peer(1), end));
}

TEST_CASE("what kept known_hosts from being read may pass without a change of the file") {
    World world;
    const auto file = world.open().value();
    world.put(World::line(1) + World::line(2));
    CHECK_FALSE(::curvegate::test::without_descriptors([&] { return file->is_listed(peer(1), WallTime{}); }));
    CHECK_FALSE(file->is_listed(peer(1), WallTime{std::chrono::seconds(4)}));
    CHECK(world.lines.size() == 1);
    CHECK(file->is_listed(peer(2), WallTime{std::chrono::seconds(5)}));
    CHECK(world.lines.size() == 2);
}

TEST_CASE("while known_hosts is broken, missing or open to others nobody is trusted, and that is said once") {
    World world;
    const auto file = world.open().value();
    world.put("this is no line\n");
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    CHECK(world.lines.size() == 1);
    REQUIRE(::unlink(world.path.c_str()) == 0);
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    CHECK(world.lines.size() == 2);
    world.put(World::line(1));
    REQUIRE(::chmod(world.path.c_str(), 0622) == 0);
    CHECK_FALSE(file->is_listed(peer(1), WallTime{}));
    CHECK(world.lines.size() == 3);
    world.put(World::line(1));
    CHECK(file->is_listed(peer(1), WallTime{}));
    CHECK(world.lines.size() == 4);
}

TEST_CASE("a vault does not start on a missing or broken known_hosts") {
    World world;
    world.put("this is no line\n");
    const auto broken = world.open();
    REQUIRE_FALSE(broken);
    CHECK(broken.error().is(KnownHostsErrc::unusable));
    CHECK(broken.error().text().find(world.path + ":1") != std::string::npos);
    REQUIRE(::unlink(world.path.c_str()) == 0);
    const auto missing = world.open();
    REQUIRE_FALSE(missing);
    CHECK(missing.error().is(KnownHostsErrc::missing));
}

}  // namespace
}  // namespace curvegate::vault
