#include "os/socket.hpp"
#include "tests/unit/vault_rotation.hpp"
#include "vault/control.hpp"
#include "vault/control_message.hpp"
#include "vault/listener.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace curvegate::vault {
namespace {

using test::public_of;

struct Door {
    Door()
        : path(folder.file("control.sock")),
          door(
              listen_at(path, SocketMode::owner).value(),
              [this](const ControlRequest& request, std::vector<os::UniqueFd> handed, Instant) {
                  seen.push_back(request.verb);
                  descriptors += handed.size();
                  return ControlReply{request.verb, {}, {}, "/state", "/state/file"};
              },
              [this](std::string_view line) { lines.emplace_back(line); }) {
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, path.size());
    }
    [[nodiscard]] os::UniqueFd connect() {
        os::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        turn();
        return fd;
    }
    /// SO_PEERCRED tells who connected, so a child does that and leaves the socket to us.
    [[nodiscard]] os::UniqueFd connect_from_another_process() {
        auto [ours, theirs] = os::seqpacket_pair().value();
        const pid_t child = ::fork();
        if (child == 0) {
            const os::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
            const bool good =
                ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                os::send_message(theirs.get(), as_bytes("x"), fd.get()).has_value();
            ::_exit(good ? 0 : 1);
        }
        int status = -1;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(status == 0);
        ByteArray<1> byte{};
        auto received = os::receive_message(ours.get(), byte);
        turn();
        return std::move(received.value()->fd);
    }
    void turn(Duration later = {}) {
        std::vector<pollfd> polls;
        door.add_polls(polls);
        REQUIRE(::poll(polls.data(), polls.size(), 0) >= 0);
        door.serve(polls, Instant{} + later);
    }
    static void send(const os::UniqueFd& to, Bytes bytes, std::span<const int> fds = {}) {
        REQUIRE(send_with_descriptors(to.get(), bytes, fds));
    }
    /// A reply waits; an end of the connection is none.
    static bool answered(const os::UniqueFd& from) {
        std::vector<Byte> buffer(kLargestControlReply);
        const ssize_t size = ::recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        return size > 0 &&
               parse_control_reply(Bytes(buffer).first(static_cast<std::size_t>(size))).has_value();
    }
    test::TemporaryFolder folder;
    std::string path;
    sockaddr_un address{};
    std::vector<ControlVerb> seen;
    std::size_t descriptors = 0;
    std::vector<std::string> lines;
    ControlDoor door;
};
const std::vector<Byte> kStatus = {2, 1, 0, 0, 0, 0, 0, 0};

TEST_CASE("the control socket is the user's alone and answers each request once") {
    Door world;
    struct stat info{};
    REQUIRE(::stat(world.path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    const auto one = world.connect();
    for (int i = 0; i < 3; ++i) {
        Door::send(one, kStatus);
        world.turn();
        CHECK(Door::answered(one));
        CHECK_FALSE(Door::answered(one));
    }
    const std::array fds = {0, 1, 2};
    Door::send(one, kStatus, fds);
    world.turn();
    CHECK(world.descriptors == 3);
    CHECK(world.seen.size() == 4);
}

TEST_CASE("what is malformed on the control socket ends that connection and no other") {
    Door world;
    const auto honest = world.connect();
    const auto start = [](std::string_view path) {
        std::vector<Byte> out(kLargestControlRequest);
        out.resize(serialise(ControlRequest{ControlVerb::start, path, {}}, out).size());
        return out;
    };
    const std::vector<std::vector<Byte>> bad = {{1},
                                                {1, 1, 0, 0, 0, 0, 0, 0},
                                                {2, 0, 0, 0, 0, 0, 0, 0},
                                                {2, 7, 0, 0, 0, 0, 0, 0},
                                                {2, 1, 0, 0, 0, 0, 0, 1},
                                                {2, 1, 0, 1, 0, 0, 0, 0, '/'},
                                                {2, 2, 0, 0, 0, 0, 0, 0},
                                                {2, 2, 0, 2, 0, 0, 0, 0, '/'},
                                                {2, 2, 0, 1, 0, 0, 0, 0, '/', 'x'},
                                                start("relative"),
                                                start("/with\nline"),
                                                std::vector<Byte>(kLargestControlRequest + 1, 1)};
    for (const auto& bytes : bad) {
        const auto fd = world.connect();
        Door::send(fd, bytes);
        world.turn();
        CHECK_FALSE(Door::answered(fd));
        CHECK(world.door.connections() == 1);
    }
    CHECK(world.seen.empty());
    const std::array fds = {0, 1, 2, 2, 2};
    const auto fd = world.connect();
    Door::send(fd, kStatus, fds);
    world.turn();
    CHECK(world.seen.empty());
    Door::send(honest, kStatus);
    world.turn();
    CHECK(Door::answered(honest));
}

TEST_CASE("those who say nothing on the control socket are let go, and never more than a few are served") {
    Door world;
    std::vector<os::UniqueFd> many;
    for (std::size_t i = 0; i < ControlDoor::kMostConnections + 3; ++i)
        many.push_back(world.connect_from_another_process());
    CHECK(world.door.connections() == ControlDoor::kMostConnections);
    world.turn(ControlDoor::kIdle);
    CHECK(world.door.connections() == 0);
    world.turn(ControlDoor::kIdle);  // now there is room for those that waited
    CHECK(world.door.connections() == 3);
}

TEST_CASE("one process cannot take all connections of the control socket") {
    Door world;
    std::vector<os::UniqueFd> greedy;
    for (std::size_t i = 0; i < 3 * ControlDoor::kMostConnections; ++i) greedy.push_back(world.connect());
    CHECK(world.door.connections() == ControlDoor::kMostOfAProcess);
    const auto other = world.connect_from_another_process();
    CHECK(world.door.connections() == ControlDoor::kMostOfAProcess + 1);
    Door::send(other, kStatus);
    world.turn();
    CHECK(Door::answered(other));
    // One of the first process's own ends, and another may come in its place.
    greedy.erase(greedy.begin());
    world.turn();
    greedy.push_back(world.connect());
    Door::send(greedy.back(), kStatus);
    world.turn();
    CHECK(Door::answered(greedy.back()));
}

TEST_CASE("messages of the control socket survive the way there and back, and nothing shorter does") {
    std::vector<Byte> room(kLargestControlRequest);
    const std::vector<Byte> passphrase = {1, 2, 3};
    const auto bytes = serialise(ControlRequest{ControlVerb::start, "/keys/b", passphrase}, room);
    const auto request = parse_control_request(bytes);
    REQUIRE(request);
    CHECK(request->path == "/keys/b");
    CHECK(std::ranges::equal(request->passphrase, passphrase));
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK_FALSE(parse_control_request(bytes.first(size)));

    ControlReply reply{ControlVerb::finish, {}, {}, "/state", "/state/file"};
    for (const Byte fill : std::initializer_list<Byte>{0x11, 0x12}) {
        reply.keys.push_back({KeySlot{fill}, KeyPart::previous, to_array(public_of(fill).bytes()), 7,
                              ControlKey::kNever, "/keys/" + std::to_string(fill)});
    }
    auto whole = serialise(reply);
    REQUIRE(parse_control_reply(whole).has_value());
    CHECK(*parse_control_reply(whole) == reply);
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(parse_control_reply(Bytes(whole).first(size)));
    whole.push_back(0);
    CHECK_FALSE(parse_control_reply(whole));
}

}  // namespace
}  // namespace curvegate::vault
