#include "os/socket.hpp"
#include "tests/unit/vault_rotation.hpp"
#include "vault/known_hosts_file.hpp"
#include "vault/server.hpp"
#include "vault/service.hpp"

#include <sys/socket.h>

#include <vector>

/// The service with two server keys, as it is in the midst of a rotation.
namespace curvegate::vault {
namespace {

using test::hello_for;
using test::key_of;
using test::kFirst;
using test::kNoKey;
using test::kNotForUs;
using test::kSecond;
using test::told;
using test::vouch_for;

class Endless final : public NonceSource {
  public:
    Result<crypto::LongTermNonce> next() override {
        crypto::LongTermNonce nonce;
        store_be<std::uint64_t>(MutableFixedBytes<16>(nonce.bytes).first<8>(), ++given);
        return nonce;
    }
    std::uint64_t given = 0;
};

const std::string kWrongVouch(describe(Status::vouch_is_wrong));

/// A service whose current server key is 0x11 in slot 0.
struct TwoKeys {
    TwoKeys() : service(Service::Key{key_of(KeyRole::server, 0x11), &one}, std::nullopt, nobody) {}
    void add() { service.add_server({key_of(KeyRole::server, 0x12), &two}, KeySlot{1}); }
    std::string ask(const RequestBody& body) {
        return told(service.handle({RequestId{1}, body}, Instant{} + std::chrono::seconds(5), {}).body);
    }
    Endless one;
    Endless two;
    NoListedKeys nobody;
    Service service;
};

TEST_CASE("a vault with one key answers in its slot, and tells a front that names another") {
    TwoKeys world;
    CHECK(world.ask(hello_for(0x11, kFirst)) == "answer");
    CHECK(world.ask(hello_for(0x11, KeySlot{9})) == "other 0 0");
    CHECK(world.ask(hello_for(0x12, kFirst)) == kNotForUs);
    CHECK(world.ask(hello_for(0x11, KeySlot::client)) == kNoKey);
    CHECK(world.one.given == 1);
}

TEST_CASE("both keys are answered during a rotation, each in its own slot and with its own nonces") {
    TwoKeys world;
    world.add();
    CHECK(world.ask(hello_for(0x11, kFirst)) == "answer");
    CHECK(world.ask(hello_for(0x12, kFirst)) == "other 1 0");
    CHECK(world.two.given == 0);  // nothing was sealed
    CHECK(world.ask(hello_for(0x12, kSecond)) == "answer");
    CHECK(world.ask(hello_for(0x11, kSecond)) == "other 0 0");
    CHECK(world.ask(hello_for(0x13, kFirst)) == kNotForUs);
    CHECK(world.ask(hello_for(0x13, kSecond)) == kNotForUs);
    CHECK(world.one.given == 1);
    CHECK(world.two.given == 1);
    world.service.switch_servers();
    CHECK(world.ask(hello_for(0x11, kFirst)) == "answer");  // slots stay with their keys
    CHECK(world.ask(hello_for(0x12, kFirst)) == "other 1 1");
}

TEST_CASE("a vouch is opened under the key of its slot and no other") {
    TwoKeys world;
    world.add();
    CHECK(world.ask(vouch_for(0x11, kFirst)) == "good");
    CHECK(world.ask(vouch_for(0x12, kSecond)) == "good");
    CHECK(world.ask(vouch_for(0x12, kFirst)) == kWrongVouch);
    CHECK(world.ask(vouch_for(0x11, kSecond)) == kWrongVouch);
    CHECK(world.ask(vouch_for(0x11, KeySlot{2})) == kNoKey);
    CHECK(world.service.use_of(kFirst)->clients == 1);
    CHECK(world.service.use_of(kSecond)->clients == 1);
    CHECK(world.service.use_of(kSecond)->last == Instant{} + std::chrono::seconds(5));
    CHECK_FALSE(world.service.use_of(KeySlot{2}));
}

TEST_CASE("a key that was dropped is refused, and its secrets are wiped") {
    TwoKeys world;
    const auto before = test::pool().in_use();
    world.add();
    CHECK(world.ask(vouch_for(0x11, kFirst)) == "good");  // its shared key is kept
    world.service.switch_servers();
    world.service.drop_second();
    CHECK(test::pool().in_use() == before);
    CHECK(world.ask(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(world.ask(vouch_for(0x11, kFirst)) == kNoKey);
    CHECK(world.ask(hello_for(0x12, kFirst)) == "other 1 1");
    CHECK(world.ask(hello_for(0x12, kSecond)) == "answer");
}

TEST_CASE("fronts are told of a compromised key, those that come later too") {
    TwoKeys world;
    Server server(world.service, {}, [](std::string_view) {});
    std::vector<KeySlot> dropped;
    server.greet_with([&] { return dropped; });
    const auto connect = [&] {
        auto [ours, theirs] = os::seqpacket_pair().value();
        server.add(std::move(theirs));
        return std::move(ours);
    };
    const auto notice = [&](const os::UniqueFd& from) -> int {
        REQUIRE(server.wait(0));
        server.serve({}, {});
        MessageBuffer buffer;
        const ssize_t size = ::recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (size <= 0) return -1;
        const auto reply = parse_reply(Bytes(buffer).first(static_cast<std::size_t>(size))).value();
        return static_cast<int>(std::get<KeyDropped>(reply.body).slot);
    };
    const auto early = connect();
    CHECK(notice(early) == -1);
    dropped.push_back(KeySlot{5});
    server.announce(KeySlot{5});
    CHECK(notice(early) == 5);
    CHECK(notice(early) == -1);
    const auto late = connect();
    CHECK(notice(late) == 5);
}

}  // namespace
}  // namespace curvegate::vault
