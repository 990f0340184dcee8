#include "os/random.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/counter_store.hpp"
#include "vault/key_text.hpp"
#include "vault/startup.hpp"

#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <vector>

namespace curvegate::vault {
namespace {

using test::key_of;

/// A folder with both keys, their counters and a known_hosts, and options that name them.
struct World {
    World() {
        store("server.key", key_of(KeyRole::server, 0x11));
        store("client.key", key_of(KeyRole::client, 0x22));
        test::write_file(folder.file("known_hosts"), "");
        options.server_key = KeyPlace{folder.file("server.key"), false};
        options.client_key = KeyPlace{folder.file("client.key"), false};
        options.known_hosts = folder.file("known_hosts");
        options.lock_memory = Need::attempt;
    }
    void store(std::string_view name, const LongTermKey& key) {
        os::SystemRandom random;
        REQUIRE(store_key(folder.file(name), key, random, std::nullopt));
        REQUIRE(init_counter(counter_path(folder.path(), key.public_key), key.public_key, random));
    }
    auto open() {
        return Holdings::open(options, [this](std::string_view line) { lines.emplace_back(line); }, -1);
    }
    Failure failure() {
        auto opened = open();
        REQUIRE_FALSE(opened);
        return opened.error();
    }
    test::TemporaryFolder folder;
    Options options;
    std::vector<std::string> lines;
};

TEST_CASE("a vault with both keys starts and answers for both") {
    World world;
    const auto opened = world.open();
    REQUIRE(opened);
    CHECK((*opened)->counters().size() == 2);
    for (const auto slot : {KeySlot::server, KeySlot::client}) {
        const auto reply = (*opened)->service().handle({RequestId{1}, GetPublicKey{slot}}, {}, {});
        CHECK(std::holds_alternative<PublicKeyIs>(reply.body));
    }
}

TEST_CASE("one key in both roles is refused") {
    World world;
    world.store("twin.key", key_of(KeyRole::client, 0x11));
    world.options.client_key = KeyPlace{world.folder.file("twin.key"), false};
    const auto failure = world.failure();
    CHECK(failure.exit_code == EX_CONFIG);
    CHECK(failure.text.find("same key") != std::string::npos);
}

TEST_CASE("a key of the other role is refused") {
    World world;
    world.options.server_key = world.options.client_key;
    world.options.client_key.reset();
    const auto failure = world.failure();
    CHECK(failure.exit_code == EX_CONFIG);
    CHECK(failure.text.find("is a client key") != std::string::npos);
}

TEST_CASE("what is wrong at the start decides the exit status") {
    World world;
    const auto server = world.folder.file("server.key");
    const auto counter = counter_path(world.folder.path(), key_of(KeyRole::server, 0x11).public_key);
    SECTION("a missing key: 66") {
        REQUIRE(::unlink(server.c_str()) == 0);
        CHECK(world.failure().exit_code == EX_NOINPUT);
    }
    SECTION("a key or a counter of another user: 77") {
        CHECK(exit_code_of(KeyFileErrc::denied) == EX_NOPERM);
        CHECK(exit_code_of(KeyFileErrc::wrong_owner) == EX_NOPERM);
        CHECK(exit_code_of(CounterErrc::denied) == EX_NOPERM);
        CHECK(exit_code_of(KeyFileErrc::unreadable) == EX_IOERR);
    }
    SECTION("a key open to others: 77") {
        REQUIRE(::chmod(server.c_str(), 0644) == 0);
        CHECK(world.failure().exit_code == EX_NOPERM);
    }
    SECTION("no key file: 78") {
        test::write_file(server, "nonsense");
        CHECK(world.failure().exit_code == EX_CONFIG);
    }
    SECTION("a missing counter: 78") {
        REQUIRE(::unlink(counter.c_str()) == 0);
        CHECK(world.failure().exit_code == EX_CONFIG);
    }
    SECTION("a folder of the state that is not there: 78") {
        world.options.state_dir = "/nonexistent";
        world.options.control =
            GENERATE("", "control.sock");  // with one, a rotation may come, and is kept there
        const auto failure = world.failure();
        CHECK(failure.exit_code == EX_CONFIG);
        CHECK(failure.text.starts_with("/nonexistent: this folder"));
    }
    SECTION("a counter open to others: 77") {
        REQUIRE(::chmod(counter.c_str(), 0666) == 0);
        CHECK(world.failure().exit_code == EX_NOPERM);
    }
    SECTION("a missing known_hosts: 66") {
        REQUIRE(::unlink(world.options.known_hosts.c_str()) == 0);
        CHECK(world.failure().exit_code == EX_NOINPUT);
    }
    SECTION("a broken known_hosts: 78") {
        test::write_file(world.options.known_hosts, "nonsense\n");
        CHECK(world.failure().exit_code == EX_CONFIG);
    }
    SECTION("locked memory that is not to be had: 69") {
        CHECK(exit_code_of(crypto::Errc::memory_not_locked) == EX_UNAVAILABLE);
    }
    SECTION("a counter that another vault holds, or that cannot be written: 69 and 74") {
        CHECK(exit_code_of(CounterErrc::in_use) == EX_UNAVAILABLE);
        CHECK(exit_code_of(CounterErrc::cannot_write) == EX_IOERR);
        CHECK(exit_code_of(CounterErrc::unreadable) == EX_IOERR);
    }
    SECTION("a rotation's state, likewise, and one that cannot be used: 77") {
        CHECK(exit_code_of(RotationErrc::in_use) == EX_UNAVAILABLE);
        CHECK(exit_code_of(RotationErrc::cannot_write) == EX_IOERR);
        CHECK(exit_code_of(RotationErrc::unusable) == EX_NOPERM);
        for (const auto code : {RotationErrc::damaged, RotationErrc::later_version, RotationErrc::other_key,
                                RotationErrc::no_folder})
            CHECK(exit_code_of(code) == EX_CONFIG);
    }
}

TEST_CASE("a vault that makes no vouches starts without a known_hosts that can be used, and says so") {
    World world;
    world.options.client_key.reset();
    REQUIRE(world.open());
    CHECK(world.lines.empty());
    if (GENERATE(true, false)) {
        REQUIRE(::unlink(world.options.known_hosts.c_str()) == 0);
    } else {
        test::write_file(world.options.known_hosts, "nonsense\n");
    }
    REQUIRE(world.open());
    REQUIRE(world.lines.size() == 1);
    CHECK(world.lines[0].find(world.options.known_hosts) != std::string::npos);
    CHECK(world.lines[0].find("listed nobody") != std::string::npos);
}

TEST_CASE("counters may stand in a folder of their own") {
    World world;
    const auto state = world.folder.file("state");
    REQUIRE(::mkdir(state.c_str(), 0700) == 0);
    world.options.state_dir = state;
    CHECK(world.failure().text.find(state) != std::string::npos);
    os::SystemRandom random;
    for (const auto& key : {key_of(KeyRole::server, 0x11), key_of(KeyRole::client, 0x22)}) {
        REQUIRE(init_counter(counter_path(state, key.public_key), key.public_key, random));
    }
    CHECK(world.open());
}

/// Replaces the server key by a sealed one, cheaply.
void seal_server_key(const World& world, std::string_view passphrase) {
    const auto key = key_of(KeyRole::server, 0x11);
    test::CountingRandom random;
    const auto sealed = seal_secret(key.secret, as_bytes(passphrase), SealCost{1, 8 * 1024}, random).value();
    std::string text(kLongestKeyFile, '\0');
    text.resize(format_key(key, sealed, MutableBytes(reinterpret_cast<Byte*>(text.data()), text.size())));
    test::write_file(world.folder.file("server.key"), text);
}

TEST_CASE("a sealed key takes the first line of the passphrase file, or of the credential") {
    World world;
    seal_server_key(world, "open sesame");
    const auto file = world.folder.file("passphrase");
    test::write_file(file, "open sesame\nsecond line\n");
    SECTION("file") {
        world.options.passphrase_file = file;
        CHECK(world.open());
    }
    SECTION("credential") {
        REQUIRE(::chmod(file.c_str(), 0440) == 0);
        world.options.passphrase_credential = file;
        CHECK(world.open());
    }
    SECTION("without a line's end") {
        test::write_file(file, "open sesame");
        world.options.passphrase_file = file;
        CHECK(world.open());
    }
    SECTION("wrong") {
        test::write_file(file, "open barley\n");
        world.options.passphrase_file = file;
        const auto failure = world.failure();
        CHECK(failure.exit_code == EX_CONFIG);
        CHECK(failure.text.find("wrong passphrase") != std::string::npos);
        CHECK(failure.text.find("barley") == std::string::npos);
    }
}

TEST_CASE("a passphrase file that cannot be used is named with its fault") {
    World world;
    seal_server_key(world, "open sesame");
    const auto file = world.folder.file("passphrase");
    world.options.passphrase_file = file;
    CHECK(world.failure().text.find("no such passphrase file") != std::string::npos);
    test::write_file(file, "open sesame\n");
    REQUIRE(::chmod(file.c_str(), 0640) == 0);
    CHECK(world.failure().text.find("chmod 600") != std::string::npos);
    for (const auto& content : {std::string(), std::string("\n"), std::string(kLongestPassphrase + 1, 'x')}) {
        test::write_file(file, content);
        CHECK(world.failure().text.find("1 to 1024 bytes") != std::string::npos);
    }
}

TEST_CASE("a counter that lost a slot is used and that is said") {
    World world;
    const auto counter = counter_path(world.folder.path(), key_of(KeyRole::server, 0x11).public_key);
    auto content = test::read_file(counter);
    content[0] = 'x';
    test::write_file(counter, content);
    CHECK(world.open());
    REQUIRE(world.lines.size() == 1);
    CHECK(world.lines.front().find(counter) != std::string::npos);
}

}  // namespace
}  // namespace curvegate::vault
