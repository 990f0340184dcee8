#include "crypto/box.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/listener.hpp"
#include "vault/queue.hpp"
#include "vault/server.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace curvegate::vault {
namespace {

using test::key_of;

class EndlessNonces final : public NonceSource {
  public:
    Result<crypto::LongTermNonce> next() override {
        crypto::LongTermNonce nonce;
        store_be<std::uint64_t>(MutableFixedBytes<16>(nonce.bytes).first<8>(), ++given);
        return nonce;
    }
    std::uint64_t given = 0;
};

class Anybody final : public ListedKeys {
  public:
    bool is_listed(const crypto::PublicKey&, WallTime) override { return true; }
};

Request hello(std::uint32_t id, bool good = true) {
    const auto keys = test::short_keys(static_cast<Byte>(3 + 2 * good));
    AnswerHello body{KeySlot::server, to_array(keys.public_key.bytes()), {}, {}, {}};
    if (good) {
        const auto shared = crypto::agree(keys.secret, key_of(KeyRole::server, 0x11).public_key).value();
        crypto::seal(shared, crypto::Nonce::make(crypto::ShortPurpose::hello, body.number), ByteArray<64>{},
                     body.box);
    }
    return {RequestId{id}, body};
}
Request ask_key(std::uint32_t id) {
    return {RequestId{id}, GetPublicKey{KeySlot::server}};
}

/// A server on a service with one server key, driven turn by turn.
struct World {
    World()
        : service(Service::Key{key_of(KeyRole::server, 0x11), &nonces}, std::nullopt, anybody),
          server(service, {}, [this](std::string_view line) { lines.emplace_back(line); }) {}

    /// Our end of a new connection.
    os::UniqueFd connect() {
        auto [ours, theirs] = os::seqpacket_pair().value();
        server.add(std::move(theirs));
        return std::move(ours);
    }
    void turn(Duration later = {}) {
        REQUIRE(server.wait(0));
        server.serve(Instant{} + later, WallTime{});
    }
    static void send(const os::UniqueFd& to, const Request& request) {
        MessageBuffer buffer;
        REQUIRE(os::send_message(to.get(), serialise(request, buffer)));
    }
    /// The replies that wait, in their order; -1 stands for the end of the connection.
    static std::vector<long> replies(const os::UniqueFd& from, Status* status = nullptr) {
        std::vector<long> ids;
        MessageBuffer buffer;
        while (true) {
            const ssize_t size = ::recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
            if (size < 0) return ids;
            if (size == 0) {
                ids.push_back(-1);
                return ids;
            }
            const auto reply = parse_reply(Bytes(buffer).first(static_cast<std::size_t>(size))).value();
            ids.push_back(reply.id.value);
            if (const auto* refused = std::get_if<Refused>(&reply.body); refused && status)
                *status = refused->status;
        }
    }

    EndlessNonces nonces;
    Anybody anybody;
    std::vector<std::string> lines;
    Service service;
    Server server;
};

TEST_CASE("requests of all connections are answered in one turn") {
    World world;
    const auto a = world.connect();
    const auto b = world.connect();
    World::send(a, ask_key(1));
    World::send(b, ask_key(2));
    World::send(a, hello(3));
    world.turn();
    CHECK(World::replies(a) == std::vector<long>{1, 3});
    CHECK(World::replies(b) == std::vector<long>{2});
}

TEST_CASE("Hellos are answered after everything else, the newest first") {
    World world;
    const auto a = world.connect();
    for (std::uint32_t i = 0; i < 3; ++i) World::send(a, hello(i));
    World::send(a, ask_key(10));
    world.turn();
    CHECK(World::replies(a) == std::vector<long>{10, 2, 1, 0});
}

TEST_CASE("a request that comes while many Hellos wait is answered before them") {
    World world;
    const auto a = world.connect();
    const auto b = world.connect();
    for (std::uint32_t i = 0; i < 40; ++i) World::send(a, hello(i));
    world.turn();
    CHECK(World::replies(a).size() == Server::kHellosATurn);
    World::send(b, ask_key(100));
    world.turn();
    CHECK(World::replies(b) == std::vector<long>{100});
    CHECK(World::replies(a).size() == Server::kHellosATurn);
    world.turn();
    CHECK(World::replies(a).size() == 40 - 2 * Server::kHellosATurn);
}

TEST_CASE("waiting Hellos of two connections are answered in turn") {
    World world;
    const auto a = world.connect();
    const auto b = world.connect();
    for (std::uint32_t i = 0; i < 30; ++i) {
        World::send(a, hello(i));
        World::send(b, hello(i));
    }
    world.turn();
    CHECK(World::replies(a).size() == Server::kHellosATurn / 2);
    CHECK(World::replies(b).size() == Server::kHellosATurn / 2);
}

TEST_CASE("when the queue of Hellos is full the oldest is refused over rate") {
    World world;
    const auto a = world.connect();
    for (std::uint32_t i = 0; i < RequestQueue::kMostHellos + 2; ++i) World::send(a, hello(i, false));
    world.turn();
    Status status{};
    const auto first = World::replies(a, nullptr);
    REQUIRE(first.size() >= 2);
    CHECK(first[0] == 0);
    CHECK(first[1] == 1);
    for (std::uint32_t i = 0; i < 5; ++i) world.turn();
    const auto rest = World::replies(a, &status);
    CHECK(first.size() + rest.size() == RequestQueue::kMostHellos + 2);
}

TEST_CASE("the queue gives Hellos back newest first and drops the oldest") {
    RequestQueue queue;
    for (std::uint32_t i = 0; i < RequestQueue::kMostHellos; ++i) CHECK_FALSE(queue.push(hello(i, false)));
    const auto dropped = queue.push(hello(99, false));
    REQUIRE(dropped);
    CHECK(dropped->id == RequestId{0});
    CHECK(queue.pop_hello()->id == RequestId{99});
    CHECK(queue.pop_hello()->id == RequestId{RequestQueue::kMostHellos - 1});
    CHECK_FALSE(queue.pop_prompt());
}

TEST_CASE("the queue has no room beyond 256 prompt requests") {
    RequestQueue queue;
    for (std::uint32_t i = 0; i < RequestQueue::kMostPrompt; ++i) {
        CHECK(queue.room() != 0);
        CHECK_FALSE(queue.push(ask_key(i)));
    }
    CHECK(queue.room() == 0);
    CHECK(queue.pop_prompt()->id == RequestId{0});
    CHECK(queue.room() == 1);
}

TEST_CASE("a malformed, unlisted, oversized or empty request ends its connection and no other") {
    const auto ends = [](Bytes message) {
        World world;
        const auto bad = world.connect();
        const auto good = world.connect();
        REQUIRE(::send(bad.get(), message.data(), message.size(), 0) == static_cast<ssize_t>(message.size()));
        World::send(good, ask_key(5));
        world.turn();
        CHECK(World::replies(good) == std::vector<long>{5});
        CHECK(world.lines.size() <= 1);
        return World::replies(bad) == std::vector<long>{-1} && world.server.connections() == 1;
    };
    MessageBuffer buffer;
    const auto good = serialise(ask_key(1), buffer);
    std::vector<Byte> message(good.begin(), good.end());
    CHECK_FALSE(ends(message));
    for (std::size_t size = 0; size < message.size(); ++size) CHECK(ends(Bytes(message).first(size)));
    CHECK(ends(std::vector<Byte>(kMaxMessageSize + 1)));
    CHECK(ends(std::vector<Byte>(60'000)));
    message[1] = 9;
    CHECK(ends(message));
}

TEST_CASE("a descriptor that comes with a request is closed unused") {
    World world;
    const auto a = world.connect();
    const auto extra = os::seqpacket_pair().value();
    MessageBuffer buffer;
    REQUIRE(os::send_message(a.get(), serialise(ask_key(1), buffer), extra.second.get()));
    world.turn();
    CHECK(World::replies(a) == std::vector<long>{1});
}

TEST_CASE("a connection that is closed by its peer goes") {
    World world;
    auto a = world.connect();
    a.reset();
    world.turn();
    CHECK(world.server.connections() == 0);
}

TEST_CASE("a peer that does not read its replies is not read from, and is let go after 30 s") {
    World world;
    const auto a = world.connect();
    const auto b = world.connect();
    MessageBuffer buffer;
    const auto request = serialise(ask_key(1), buffer);
    // Until nothing more fits: neither their replies nor our requests.
    for (int quiet = 0; quiet < 3;) {
        const bool sent = ::send(a.get(), request.data(), request.size(), MSG_DONTWAIT) > 0;
        quiet = sent ? 0 : quiet + 1;
        if (!sent) world.turn();
    }
    CHECK(world.server.connections() == 2);
    World::send(b, ask_key(7));
    world.turn(Server::kStuckAfter - std::chrono::seconds(1));
    CHECK(World::replies(b) == std::vector<long>{7});
    CHECK(world.server.connections() == 2);
    world.turn(Server::kStuckAfter);
    CHECK(world.server.connections() == 1);
}

TEST_CASE("a peer that reads late gets every reply") {
    World world;
    const auto a = world.connect();
    std::uint32_t sent = 0;
    MessageBuffer buffer;
    for (int quiet = 0; quiet < 3;) {
        const auto request = serialise(ask_key(sent), buffer);
        const bool taken = ::send(a.get(), request.data(), request.size(), MSG_DONTWAIT) > 0;
        if (taken) ++sent;
        quiet = taken ? 0 : quiet + 1;
        if (!taken) world.turn();
    }
    std::vector<long> got;
    for (int i = 0; i < 20 && got.size() < sent; ++i) {
        const auto some = World::replies(a);
        got.insert(got.end(), some.begin(), some.end());
        world.turn();
    }
    REQUIRE(got.size() == sent);
    CHECK(std::ranges::is_sorted(got));
}

TEST_CASE("the server ends when its parent's socket closes") {
    World world;
    auto [ours, theirs] = os::seqpacket_pair().value();
    world.server.end_with(theirs.get());
    CHECK(world.server.wait(0));
    ours.reset();
    CHECK_FALSE(world.server.wait(0));
}

/// Writes slots to nowhere, or fails.
class FakeWriter final : public SlotWriter {
  public:
    Result<> write_slot(std::size_t, FixedBytes<kCounterSlotSize>) override {
        ++writes;
        if (broken) return fail(CounterErrc::cannot_write, "/state/nonce.0");
        return {};
    }
    bool broken = false;
    int writes = 0;
};

TEST_CASE("the counter is tended after the replies, with a growing pause while it fails, and said once") {
    FakeWriter writer;
    NonceCounter counter(CounterState{}, writer);
    REQUIRE(counter.reserve());
    REQUIRE(counter.next());  // the spare block is in use: half of it goes next
    for (std::uint64_t i = 0; i < kCounterBlock / 2; ++i) (void)counter.next();
    EndlessNonces nonces;
    Anybody anybody;
    Service service(Service::Key{key_of(KeyRole::server, 0x11), &nonces}, std::nullopt, anybody);
    std::vector<std::string> lines;
    Server server(service, {&counter}, [&](std::string_view line) { lines.emplace_back(line); });
    const auto turn = [&](std::chrono::seconds at) { server.serve(Instant{} + at, WallTime{}); };
    using std::chrono::seconds;

    writer.broken = true;
    turn(seconds(0));
    CHECK(writer.writes == 2);
    CHECK(lines.size() == 1);
    turn(seconds(0));
    CHECK(writer.writes == 2);
    turn(seconds(1));
    CHECK(writer.writes == 3);
    turn(seconds(2));
    CHECK(writer.writes == 3);
    turn(seconds(3));
    CHECK(writer.writes == 4);
    CHECK(lines.size() == 1);
    writer.broken = false;
    turn(seconds(100));
    CHECK(writer.writes == 5);
    CHECK(lines.size() == 2);
    turn(seconds(100));
    CHECK(writer.writes == 5);
}

os::UniqueFd connect_to(const std::string& path) {
    os::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fd.reset();
    return fd;
}

TEST_CASE("a listening vault serves the uids that it knows and no others") {
    const test::TemporaryFolder folder;
    const auto path = folder.file("vault.sock");
    World world;
    world.server.accept_from(listen_at(path).value(), {::geteuid()});
    const auto a = connect_to(path);
    REQUIRE(a);
    world.turn();
    World::send(a, ask_key(1));
    world.turn();
    CHECK(World::replies(a) == std::vector<long>{1});

    World strict;
    strict.server.accept_from(listen_at(folder.file("other.sock")).value(), {::geteuid() + 1});
    const auto b = connect_to(folder.file("other.sock"));
    REQUIRE(b);
    strict.turn();
    CHECK(strict.server.connections() == 0);
    CHECK(World::replies(b) == std::vector<long>{-1});
    CHECK(strict.lines.size() == 1);
}

TEST_CASE("a vault's socket has mode 0660; a stale one is replaced, a live one and other files are not") {
    const test::TemporaryFolder folder;
    const auto path = folder.file("vault.sock");
    {
        const auto live = listen_at(path);
        REQUIRE(live);
        struct stat info{};
        REQUIRE(::stat(path.c_str(), &info) == 0);
        CHECK((info.st_mode & 07777) == 0660);
        CHECK_FALSE(listen_at(path));
    }
    CHECK(::access(path.c_str(), F_OK) == 0);
    CHECK(listen_at(path));
    test::write_file(folder.file("file"), "keep");
    CHECK_FALSE(listen_at(folder.file("file")));
    CHECK(test::read_file(folder.file("file")) == "keep");
    CHECK_FALSE(listen_at(std::string(200, 'x')));
    CHECK_FALSE(listen_at(""));
}

}  // namespace
}  // namespace curvegate::vault
