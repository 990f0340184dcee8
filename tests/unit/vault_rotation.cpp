#include "tests/unit/vault_rotation.hpp"
#include "os/file.hpp"
#include "os/random.hpp"
#include "vault/key_file.hpp"
#include "vault/rotation.hpp"
#include "vault/startup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

/// A vault with its files, and a rotation as the control socket asks for it.
namespace curvegate::vault {
namespace {

using test::hello_for;
using test::key_of;
using test::kFirst;
using test::kNoKey;
using test::kNotForUs;
using test::kSecond;
using test::public_of;
using test::told;
using test::vouch_for;

/// A vault with its files, and what `curvegate rotate start` does before it asks.
struct Site {
    Site() {
        make("a.key", 0x11);
        options.server_key = KeyPlace{folder.file("a.key"), false};
        options.lock_memory = Need::attempt;
        options.control = folder.file("control.sock");
        open();
    }
    void make(std::string_view name, Byte fill, KeyRole role = KeyRole::server) {
        const auto key = key_of(role, fill);
        REQUIRE(store_key(folder.file(name), key, random, std::nullopt));
        REQUIRE(init_counter(counter_path(folder.path(), key.public_key), key.public_key, random));
    }
    void open() {
        holdings.reset();
        auto opened =
            Holdings::open(options, [this](std::string_view line) { lines.emplace_back(line); }, -1);
        if (!opened) FAIL(opened.error().text);
        holdings = std::move(*opened);
        holdings->rotation()->set_hooks({[this](NonceCounter&) { ++added; },
                                         [this](NonceCounter&) { ++dropped; },
                                         [this](KeySlot slot) { compromised.push_back(slot); }});
    }
    /// What proves the right to rotate.
    [[nodiscard]] std::vector<os::UniqueFd> proof(int flags = O_RDWR) {
        std::vector<os::UniqueFd> out;
        out.emplace_back(::open(state_file().c_str(), flags | O_CLOEXEC));
        return out;
    }
    [[nodiscard]] std::string state_file() {
        return holdings->rotation()->handle({ControlVerb::status, {}, {}}, {}, {}).state_file;
    }
    [[nodiscard]] std::vector<os::UniqueFd> descriptors(std::string_view name, Byte fill) {
        const auto counter = counter_path(folder.path(), public_of(fill));
        std::vector<os::UniqueFd> out = proof();
        out.emplace_back(::open(folder.file(name).c_str(), O_RDONLY | O_CLOEXEC));
        out.emplace_back(::open(counter.c_str(), O_RDWR | O_CLOEXEC));
        out.emplace_back(::open((counter + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        return out;
    }
    ControlReply ask(ControlVerb verb) {
        return with(verb, verb == ControlVerb::status ? std::vector<os::UniqueFd>() : proof());
    }
    ControlReply with(ControlVerb verb, std::vector<os::UniqueFd> handed) {
        return holdings->rotation()->handle({verb, {}, {}}, std::move(handed), {});
    }
    ControlReply start(std::string_view name, Byte fill) {
        const auto path = folder.file(name);
        return holdings->rotation()->handle({ControlVerb::start, path, {}}, descriptors(name, fill), {});
    }
    /// The live keys as "current 0x11, next 0x12".
    static std::string keys(const ControlReply& reply) {
        std::string out;
        for (const auto& key : reply.keys) {
            out += (out.empty() ? "" : ", ") + std::string(name_of(key.part)) + " ";
            for (const Byte fill : std::initializer_list<Byte>{0x11, 0x12, 0x13}) {
                if (to_array(public_of(fill).bytes()) == key.public_key) out += std::to_string(fill - 0x10);
            }
        }
        return out;
    }
    std::string ask_vault(const RequestBody& body) {
        return told(holdings->service().handle({RequestId{1}, body}, {}, {}).body);
    }

    os::SystemRandom random;
    test::TemporaryFolder folder;
    Options options;
    std::vector<std::string> lines;
    std::unique_ptr<Holdings> holdings;
    int added = 0;
    int dropped = 0;
    std::vector<KeySlot> compromised;
};

TEST_CASE("a rotation by the control socket takes effect at once and survives a restart after each step") {
    Site site;
    site.make("b.key", 0x12);
    const bool restarts = GENERATE(false, true);
    const auto restart = [&] {
        if (restarts) site.open();
    };
    CHECK(Site::keys(site.ask(ControlVerb::status)) == "current 1");
    const auto started = site.start("b.key", 0x12);
    CHECK(started.refusal.empty());
    CHECK(Site::keys(started) == "current 1, next 2");
    CHECK(site.added == 1);
    restart();
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == "answer");
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");
    CHECK(site.holdings->rotation()->counters().size() == 2);
    CHECK(Site::keys(site.ask(ControlVerb::switch_over)) == "current 2, previous 1");
    restart();
    CHECK(site.ask_vault(hello_for(0x12, kFirst)) == "other 1 1");
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == "answer");
    CHECK(Site::keys(site.ask(ControlVerb::finish)) == "current 2");
    CHECK(site.dropped == 1);
    restart();
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");
    CHECK(site.compromised.empty());
    CHECK(CounterStore::open(counter_path(site.folder.path(), public_of(0x11)), public_of(0x11), 0)
              .has_value());
}

TEST_CASE("naming the new key as server-key in the midst of a rotation changes nothing") {
    Site site;
    site.make("b.key", 0x12);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    REQUIRE(site.ask(ControlVerb::switch_over).refusal.empty());
    site.options.server_key = KeyPlace{site.folder.file("b.key"), false};
    site.open();
    CHECK(Site::keys(site.ask(ControlVerb::status)) == "current 2, previous 1");
    CHECK(Site::keys(site.ask(ControlVerb::finish)) == "current 2");
    site.open();
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");  // its slot stays its own
}

TEST_CASE("a compromised key is dropped with its slot told, and stays so after a restart") {
    Site site;
    site.make("b.key", 0x12);
    CHECK(site.ask(ControlVerb::compromised).refusal.find("rotate start") != std::string::npos);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    if (GENERATE(false, true)) REQUIRE(site.ask(ControlVerb::switch_over).refusal.empty());
    CHECK(Site::keys(site.ask(ControlVerb::compromised)) == "current 2");
    CHECK(site.compromised == std::vector{kFirst});
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(site.ask_vault(vouch_for(0x11, kFirst)) == kNoKey);
    site.open();
    CHECK(site.holdings->rotation()->state().dropped.test(0));
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(site.lines.back().find("rotated out") != std::string::npos);
}

TEST_CASE("only who can write to the state file may change a key, whatever his uid is") {
    Site site;
    site.make("b.key", 0x12);
    site.make("c.key", 0x13);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    const auto state = site.state_file();
    REQUIRE(state.starts_with("/"));
    const auto file = [&](const std::string& path, int flags) {
        std::vector<os::UniqueFd> out;
        out.emplace_back(::open(path.c_str(), flags | O_CLOEXEC));
        REQUIRE(out.front());
        return out;
    };
    const auto copy = site.folder.file("copy");
    REQUIRE(
        os::create_file(copy, as_bytes(os::read_checked(state, os::Privacy::secret, 100'000).value()), 0600));
    for (const auto verb :
         {ControlVerb::switch_over, ControlVerb::finish, ControlVerb::cancel, ControlVerb::compromised}) {
        const auto refused = [&](const ControlReply& reply) {
            INFO(name_of(verb) << ": " << reply.refusal);
            CHECK_FALSE(reply.refusal.empty());
            CHECK(Site::keys(reply) == "current 1, next 2");
        };
        refused(site.with(verb, {}));
        refused(site.with(verb, file(state, O_RDONLY)));
        refused(site.with(verb, file(state, O_WRONLY)));
        refused(site.with(verb, file(state, O_PATH)));
        refused(site.with(verb, file(copy, O_RDWR)));
        refused(site.with(verb, file(site.folder.path(), O_RDONLY | O_DIRECTORY)));
        refused(site.with(verb, file("/dev/null", O_RDWR)));
        auto two = site.proof();
        two.push_back(std::move(site.proof().front()));
        refused(site.with(verb, std::move(two)));
    }
    CHECK(Site::keys(site.with(ControlVerb::status, {})) == "current 1, next 2");
    REQUIRE(site.ask(ControlVerb::cancel).refusal.empty());
    auto others = site.descriptors("c.key", 0x13);
    others.front() = std::move(file(state, O_RDONLY).front());
    const auto path = site.folder.file("c.key");
    const auto reply =
        site.holdings->rotation()->handle({ControlVerb::start, path, {}}, std::move(others), {});
    CHECK(reply.refusal.find("prove") != std::string::npos);
    CHECK(Site::keys(reply) == "current 1");
}

TEST_CASE("what a rotation may not begin with is refused, and changes nothing") {
    Site site;
    site.make("b.key", 0x12);
    const auto refused = [&](const ControlReply& reply, std::string_view why) {
        INFO(reply.refusal);
        CHECK(reply.refusal.find(why) != std::string::npos);
        CHECK(Site::keys(reply) == "current 1");
        CHECK(site.added == 0);
    };
    SECTION("a client key") {
        site.make("c.key", 0x13, KeyRole::client);
        refused(site.start("c.key", 0x13), "role server");
    }
    SECTION("the current key") {
        refused(site.start("a.key", 0x11), "current key");
    }
    SECTION("a counter of another key") {
        site.make("c.key", 0x13);
        auto fds = site.descriptors("b.key", 0x12);
        auto others = site.descriptors("c.key", 0x13);
        fds[2] = std::move(others[2]);
        const auto path = site.folder.file("b.key");
        refused(site.holdings->rotation()->handle({ControlVerb::start, path, {}}, std::move(fds), {}),
                "another key");
    }
    SECTION("a counter in use") {
        const auto held =
            CounterStore::open(counter_path(site.folder.path(), public_of(0x12)), public_of(0x12), 0);
        refused(site.start("b.key", 0x12), "in use");
    }
    SECTION("a key file that others may read") {
        REQUIRE(::chmod(site.folder.file("b.key").c_str(), 0644) == 0);
        refused(site.start("b.key", 0x12), "600");
    }
    SECTION("no descriptors") {
        refused(site.holdings->rotation()->handle({ControlVerb::start, "/x", {}}, {}, {}), "descriptors");
    }
    SECTION("descriptors with another verb") {
        refused(site.holdings->rotation()->handle({ControlVerb::status, {}, {}},
                                                  site.descriptors("b.key", 0x12), {}),
                "descriptors");
    }
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == kNotForUs);
    site.open();
    CHECK(Site::keys(site.ask(ControlVerb::status)) == "current 1");
}

TEST_CASE("a vault whose key files do not fit the state of a rotation does not start") {
    Site site;
    site.make("b.key", 0x12);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    site.holdings.reset();
    const auto failure = [&] {
        auto opened = Holdings::open(site.options, [](std::string_view) {}, -1);
        REQUIRE_FALSE(opened);
        return opened.error().text;
    };
    REQUIRE(::unlink(site.folder.file("b.key").c_str()) == 0);
    CHECK(failure().find("b.key") != std::string::npos);
    site.make("b.key", 0x13);
    CHECK(failure() == Error(RotationErrc::other_key, site.folder.file("b.key")).text());
}

TEST_CASE("a sealed key begins a rotation with its passphrase only") {
    Site site;
    const auto key = key_of(KeyRole::server, 0x12);
    const std::string_view passphrase = "correct horse";
    REQUIRE(store_key(site.folder.file("b.key"), key, site.random, as_bytes(passphrase)));
    REQUIRE(init_counter(counter_path(site.folder.path(), key.public_key), key.public_key, site.random));
    const auto path = site.folder.file("b.key");
    const auto start = [&](std::string_view with) {
        return site.holdings->rotation()
            ->handle({ControlVerb::start, path, as_bytes(with)}, site.descriptors("b.key", 0x12), {})
            .refusal;
    };
    CHECK(start("").find("passphrase") != std::string::npos);
    CHECK(start("wrong").find("passphrase") != std::string::npos);
    CHECK(start(passphrase).empty());
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");
}

}  // namespace
}  // namespace curvegate::vault
