#include "daemon/parent/vault_keeper.hpp"

#include "tests/unit/vault_support.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <catch2/catch.hpp>

/// Connections to a vault that is a unit of its own.
namespace curvegate::daemon::parent {
namespace {

using News = VaultKeeper::News;

/// A vault that is slow to take connections: one may wait.
struct SlowVault {
    vault::test::TemporaryFolder folder;
    std::string path = folder.file("vault.sock");
    os::UniqueFd listening{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    std::vector<os::UniqueFd> taken;

    SlowVault() {
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        REQUIRE(path.size() < sizeof name.sun_path);
        path.copy(name.sun_path, path.size());
        REQUIRE(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
        REQUIRE(::listen(listening.get(), 0) == 0);
    }
    void take_one() {
        taken.emplace_back(::accept(listening.get(), nullptr, nullptr));
        REQUIRE(taken.back());
    }
};

TEST_CASE("a connection that fails takes none of those before it away", "[daemon][vault-keeper]") {
    SlowVault vault;
    config::Config config;
    config.vault_socket = vault.path;
    constexpr std::size_t kWorkers = 3;
    VaultKeeper keeper(config, kWorkers);
    for (std::size_t i = 0; i < kWorkers; ++i) keeper.lost(i);
    std::vector<os::UniqueFd> workers(kWorkers);
    for (std::size_t round = 0; round < kWorkers; ++round) {
        INFO("round " << round);
        REQUIRE(keeper.next_deadline().has_value());
        REQUIRE(keeper.tend(*keeper.next_deadline()) == News::connections);
        auto fresh = keeper.take_connections();
        REQUIRE(fresh.size() == kWorkers);
        for (std::size_t i = 0; i < kWorkers; ++i) CHECK(static_cast<bool>(fresh[i]) == (i == round));
        workers[round] = std::move(fresh[round]);
        vault.take_one();
    }
    CHECK_FALSE(keeper.next_deadline().has_value());  // nobody lacks one
}

}  // namespace
}  // namespace curvegate::daemon::parent
