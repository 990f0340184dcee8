#include "daemon/parent/revoke.hpp"

#include "tests/unit/vault_support.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>

/// A front that was taken over may ask for it: what it can have written is bounded.
namespace curvegate::daemon::parent {
namespace {

constexpr int kNotWritten = 73;

ByteArray<32> key_bytes(std::uint32_t number) {
    ByteArray<32> out{};
    out.fill(0x11);
    for (std::size_t i = 0; i < 4; ++i) out[i] = static_cast<Byte>(number >> (8 * i));
    return out;
}

/// A daemon whose known_hosts is a file of one line.
struct Rig {
    vault::test::TemporaryFolder folder;
    std::string path = folder.file("known_hosts");
    InForce in_force;

    Rig() {
        vault::test::write_file(path, "# nobody yet\n");
        auto config = std::make_shared<config::Config>();
        config->known_hosts = path;
        in_force.workers = 1;
        in_force.loaded.config = std::move(config);
    }
    Revocation revoke(std::uint32_t first, std::size_t count) {
        to_parent::Revoke request{1, {}};
        for (std::size_t i = 0; i < count; ++i)
            request.keys.push_back(key_bytes(first + static_cast<std::uint32_t>(i)));
        return parent::revoke(request, in_force);
    }
};

TEST_CASE("a revoked key is remembered and written", "[daemon][revoke]") {
    Rig rig;
    const auto done = rig.revoke(1, 2);
    CHECK(done.status == EXIT_SUCCESS);
    CHECK_FALSE(done.told.has_value());
    CHECK(rig.in_force.revoked.size() == 2);
    const auto text = vault::test::read_file(rig.path);
    CHECK(text.starts_with("# nobody yet\n"));
    CHECK(text.find("@revoked") != text.rfind("@revoked"));
}

TEST_CASE("a key is revoked until the next start, even if it cannot be written", "[daemon][revoke]") {
    Rig rig;
    vault::test::write_file(rig.path, "this is no line of known_hosts\n");
    const auto done = rig.revoke(1, 1);
    CHECK(done.status == kNotWritten);
    REQUIRE(done.told.has_value());
    CHECK(done.told->ends_with("; revoked until restart"));
    CHECK(rig.in_force.revoked.size() == 1);
}

TEST_CASE("bytes that are no key are left out", "[daemon][revoke]") {
    Rig rig;
    to_parent::Revoke request{1, {ByteArray<32>{}, key_bytes(1)}};  // zero is a point of small order
    CHECK(parent::revoke(request, rig.in_force).status == EXIT_SUCCESS);
    CHECK(rig.in_force.revoked.size() == 1);
}

TEST_CASE("a key that is revoked again takes no further place", "[daemon][revoke]") {
    Rig rig;
    for (int i = 0; i < 3; ++i) CHECK(rig.revoke(1, 2).status == EXIT_SUCCESS);
    CHECK(rig.in_force.revoked.size() == 2);
}

TEST_CASE("a front has kMostRevoked keys written and no more", "[daemon][revoke]") {
    Rig rig;
    const auto key = crypto::PublicKey::parse(key_bytes(1));
    REQUIRE(key.has_value());
    rig.in_force.revoked.assign(kMostRevoked - 2, *key);
    CHECK(rig.revoke(10, 2).status == EXIT_SUCCESS);
    const auto text = vault::test::read_file(rig.path);
    const auto refused = rig.revoke(20, 1);
    CHECK(refused.status == EXIT_FAILURE);
    CHECK(refused.told == "too many keys have been revoked since the start");
    CHECK(rig.in_force.revoked.size() == kMostRevoked);
    CHECK(vault::test::read_file(rig.path) == text);
}

}  // namespace
}  // namespace curvegate::daemon::parent
