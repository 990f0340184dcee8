#include "handshake/curvecp/path.hpp"
#include "support/bytes.hpp"
#include "support/vault.hpp"

#include <catch2/catch.hpp>

#include <array>
#include <map>
#include <set>

/// A client that moves, one that seems to, and how little goes to where nobody has proven to be
/// (PROTOCOL 7.7), under virtual time.
namespace curvegate::handshake::curvecp {
namespace {

using namespace std::chrono_literals;
using test::kStart;
using wire::curvecp::MessageId;

Path path(Byte network, std::uint16_t port, Byte own) {
    return {{IpAddress::from_v4(ByteArray<4>{192, 0, network, 1}), port},
            IpAddress::from_v4(ByteArray<4>{198, 51, 100, own})};
}
// What sets them apart is one thing each: the client's network, its port, the server's address.
const Path kHome = path(1, 4000, 1);
const Path kAway = path(2, 4000, 1);
const Path kOtherPort = path(1, 4001, 1);
const Path kOtherOwn = path(1, 4000, 2);
constexpr std::size_t kPacket = 112;  // the shortest of a client's Messages

class World {
  public:
    test::SeededRandom random{1};
    PathValidator path{kHome, random};
    Instant now = kStart;
    std::map<Path, std::vector<MessageId>> challenged;  ///< in the order of sending
    int moves = 0;                                      ///< that were proven

    void hear(const Path& from, bool newest = true, std::size_t size = kPacket, MessageId acked = {}) {
        keep(path.take({from, newest, size, acked}, now));
    }
    void acknowledge(const Path& from, MessageId id) { hear(from, true, kPacket, id); }
    /// As an actor does: looks at the deadline and lets that time come.
    void wait(Duration span) {
        const Instant end = now + span;
        while (path.next_deadline() && *path.next_deadline() <= end) {
            now = std::max(now, *path.next_deadline());
            keep(path.on_deadline(now));
        }
        now = end;
    }
    /// Is there a candidate? Only one has anything to wait for.
    [[nodiscard]] bool is_moving() const { return path.next_deadline().has_value(); }
    [[nodiscard]] std::size_t count(const Path& at) { return challenged[at].size(); }

  private:
    void keep(const Reaction& reaction) {
        keep(reaction.to_proven);
        for (const auto& challenge : reaction.to_candidate) keep(challenge);
        if (reaction.has_moved) ++moves;
    }
    void keep(const std::optional<Challenge>& challenge) {
        if (!challenge) return;
        CHECK(challenge->id.value != 0);
        challenged[challenge->to].push_back(challenge->id);
    }
};

TEST_CASE("a client that stays is challenged by nobody", "[path]") {
    World world;
    for (int i = 0; i < 5; ++i) world.hear(kHome, i % 2 == 0);
    CHECK(world.challenged.empty());
    CHECK_FALSE(world.path.next_deadline().has_value());
    CHECK(world.path.path_for(100'000) == kHome);
    CHECK(world.path.allowance() > 1'000'000'000);
}

TEST_CASE("the newest packet from elsewhere makes a candidate: two challenges there, one to the old path",
          "[path]") {
    World world;
    world.hear(kAway);
    CHECK(world.is_moving());
    CHECK(world.count(kAway) == 2);
    CHECK(world.count(kHome) == 1);
    std::set<MessageId> ids;
    for (const auto& [to, sent] : world.challenged) ids.insert(sent.begin(), sent.end());
    CHECK(ids.size() == 3);
    CHECK(world.path.proven() == kHome);
    CHECK(world.path.path_for(1) == kAway);
}

TEST_CASE("an older packet from elsewhere changes nothing", "[path]") {
    World world;
    world.hear(kAway, false);
    CHECK_FALSE(world.is_moving());
    CHECK(world.challenged.empty());
}

TEST_CASE("a packet that begins a move is known before it is taken", "[path]") {
    World world;
    const auto asks = [&](const Path& from, bool newest) {
        return world.path.begins_move({from, newest, kPacket, {}});
    };
    CHECK(asks(kAway, true));
    CHECK_FALSE(asks(kAway, false));
    CHECK_FALSE(asks(kHome, true));
    world.hear(kAway);
    CHECK_FALSE(asks(kAway, true));
    CHECK(asks(kOtherPort, true));
    CHECK(asks(kOtherOwn, true));
}

TEST_CASE("acknowledgments of both challenges prove the candidate", "[path]") {
    World world;
    world.hear(kAway);
    const auto ids = world.challenged[kAway];
    world.acknowledge(kAway, ids[0]);
    CHECK(world.is_moving());
    world.acknowledge(kAway, ids[0]);  // one of them twice is not both
    CHECK(world.path.proven() == kHome);
    world.acknowledge(kAway, ids[1]);
    CHECK_FALSE(world.is_moving());
    CHECK(world.path.proven() == kAway);
    CHECK(world.moves == 1);
    CHECK(world.path.path_for(100'000) == kAway);
    CHECK_FALSE(world.path.next_deadline().has_value());
}

TEST_CASE("an acknowledgment counts with any number, but from the candidate only", "[path]") {
    World world;
    world.hear(kAway);
    const auto ids = world.challenged[kAway];
    world.hear(kHome, false, kPacket, ids[0]);  // overtaken, and from the old path
    world.hear(kOtherPort, false, kPacket, ids[0]);
    world.hear(kAway, false, kPacket, ids[1]);
    CHECK(world.is_moving());
    world.hear(kAway, false, kPacket, ids[0]);
    CHECK(world.path.proven() == kAway);
}

TEST_CASE("the challenge of the old path proves nothing", "[path]") {
    World world;
    world.hear(kAway);
    world.acknowledge(kAway, world.challenged[kHome][0]);
    world.acknowledge(kAway, world.challenged[kAway][0]);
    CHECK(world.is_moving());
}

TEST_CASE("what acknowledges nothing proves nothing, and its bytes count", "[path]") {
    World world;
    world.hear(kAway, true, kPacket, {});
    const std::size_t before = world.path.allowance();
    world.hear(kAway, true, 100, {});
    CHECK(world.path.allowance() == before + 300);
    CHECK(world.is_moving());
}

TEST_CASE("a client that moves back ends the candidate with its newest packet", "[path]") {
    World world;
    world.hear(kAway);
    const auto ids = world.challenged[kAway];
    world.hear(kHome, false);  // may have been under way since before the move
    CHECK(world.is_moving());
    world.hear(kHome);
    CHECK_FALSE(world.is_moving());
    CHECK(world.path.path_for(1) == kHome);
    CHECK(world.moves == 0);
    // Answers to the old challenges come too late, and another move begins with others.
    world.hear(kAway, false, kPacket, ids[0]);
    CHECK_FALSE(world.is_moving());
    world.hear(kAway);
    world.acknowledge(kAway, ids[0]);
    world.acknowledge(kAway, ids[1]);
    CHECK(world.path.proven() == kHome);
}

TEST_CASE("somebody who passes one packet on from a false source draws 3 times its bytes at most", "[path]") {
    World world;
    world.hear(kAway, true, kPacket);
    std::size_t there = world.count(kAway) * kChallengeSize;
    // The server has much to send, whenever it may.
    while (world.path.path_for(100) == kAway) {
        world.path.sent(kAway, 100);
        there += 100;
    }
    world.wait(5s);
    CHECK(world.count(kAway) == 2);  // nothing is left for more
    CHECK(there <= 3 * kPacket);
    // The client is where it was, and answers the challenge there.
    world.acknowledge(kHome, world.challenged[kHome][0]);
    CHECK_FALSE(world.is_moving());
    CHECK(world.path.path_for(100) == kHome);
}

TEST_CASE("too small a packet from elsewhere draws no challenge that it has not paid for", "[path]") {
    World world;
    world.hear(kAway, true, (kChallengeSize - 1) / 3);
    CHECK(world.count(kAway) == 0);
    world.wait(500ms);
    CHECK(world.count(kAway) == 0);
    world.hear(kAway, true, kPacket);
    world.wait(500ms);
    CHECK(world.count(kAway) == 2);
}

TEST_CASE("lost challenges go out again every 500 ms, those without an answer", "[path]") {
    World world;
    world.hear(kAway, true, 4'000);
    world.wait(499ms);
    CHECK(world.count(kAway) == 2);
    world.wait(1ms);
    CHECK(world.count(kAway) == 4);
    CHECK(world.challenged[kAway][2] == world.challenged[kAway][0]);
    CHECK(world.challenged[kAway][3] == world.challenged[kAway][1]);
    world.acknowledge(kAway, world.challenged[kAway][0]);
    world.wait(500ms);
    CHECK(world.count(kAway) == 5);
    CHECK(world.challenged[kAway][4] == world.challenged[kAway][1]);
    CHECK(world.count(kHome) == 1);  // the old path is asked once
    world.acknowledge(kAway, world.challenged[kAway][1]);
    CHECK(world.path.proven() == kAway);
}

TEST_CASE("packets from the candidate do not hurry the challenges", "[path]") {
    World world;
    for (int i = 0; i < 20; ++i) world.hear(kAway, true, 1'000);
    CHECK(world.count(kAway) == 2);
}

TEST_CASE("a candidate without an answer is given up after 10 s", "[path]") {
    World world;
    world.hear(kAway, true, 100'000);
    world.wait(9'999ms);
    CHECK(world.is_moving());
    world.wait(1ms);
    CHECK_FALSE(world.is_moving());
    CHECK(world.path.proven() == kHome);
    CHECK(world.count(kAway) == 2 * 20);
    CHECK_FALSE(world.path.next_deadline().has_value());
    // It is heard again, so it is a candidate again.
    world.hear(kAway);
    CHECK(world.is_moving());
}

TEST_CASE("a second move takes the place of the first", "[path]") {
    World world;
    world.hear(kAway, true, 4'000);
    const auto first = world.challenged[kAway];
    world.wait(3s);
    world.hear(kOtherPort, true, kPacket);
    CHECK(world.count(kOtherPort) == 2);
    CHECK(world.count(kHome) == 2);
    CHECK(world.path.allowance() == 3 * kPacket - 2 * kChallengeSize);
    for (const auto id : first) world.hear(kAway, false, kPacket, id);
    CHECK(world.is_moving());
    for (const auto id : std::vector(world.challenged[kOtherPort])) world.acknowledge(kOtherPort, id);
    CHECK(world.path.proven() == kOtherPort);
}

TEST_CASE("a second move has 10 s of its own", "[path]") {
    World world;
    world.hear(kAway);
    world.wait(9s);
    world.hear(kOtherPort);
    world.wait(9s);
    CHECK(world.is_moving());
    world.wait(1s);
    CHECK_FALSE(world.is_moving());
}

TEST_CASE("what is more than may go to the candidate goes to the old path", "[path]") {
    World world;
    world.hear(kAway, true, 1'000);
    const std::size_t most = world.path.allowance();
    CHECK(most == 3 * 1'000 - 2 * kChallengeSize);
    CHECK(world.path.path_for(most) == kAway);
    CHECK(world.path.path_for(most + 1) == kHome);
    world.path.sent(kHome, most + 1);  // counts for nothing there
    CHECK(world.path.allowance() == most);
    world.path.sent(kAway, most);
    CHECK(world.path.allowance() == 0);
    CHECK(world.path.path_for(1) == kHome);
}

/// Anything in any order: nobody who has not proven to be there gets more than 3 times what came from there.
TEST_CASE("whatever happens, an unproven path gets 3 times its bytes at most", "[path]") {
    const std::array places{kHome, kAway, kOtherPort, kOtherOwn, path(3, 4003, 3)};
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        INFO("seed " << seed);
        test::SeededRandom dice(seed);
        const auto roll = [&dice](std::size_t sides) { return dice.below(sides); };
        World world;
        std::map<Path, std::size_t> received;
        std::map<Path, std::size_t> sent;
        std::map<Path, std::size_t> challenges;
        std::set<Path> proven{kHome};
        for (int i = 0; i < 300; ++i) {
            const Path& place = places[roll(places.size())];
            switch (roll(4)) {
                case 0: {
                    const std::size_t size = 1 + roll(1'200);
                    received[place] += size;
                    world.hear(place, roll(3) != 0, size);
                    break;
                }
                case 1: {
                    const auto& ids = world.challenged[place];
                    if (ids.empty()) break;
                    received[place] += kPacket;
                    world.acknowledge(place, ids[roll(ids.size())]);
                    break;
                }
                case 2: {
                    const std::size_t size = 1 + roll(3'000);
                    const Path to = world.path.path_for(size);
                    world.path.sent(to, size);
                    sent[to] += size;
                    break;
                }
                default: world.wait(std::chrono::milliseconds(roll(2'000)));
            }
            proven.insert(world.path.proven());
            for (const auto& [to, ids] : world.challenged) challenges[to] = ids.size();
            for (const auto& [to, size] : sent) {
                if (!proven.contains(to)) CHECK(size + challenges[to] * kChallengeSize <= 3 * received[to]);
            }
            for (const auto& [to, number] : challenges) {
                if (!proven.contains(to)) CHECK(sent[to] + number * kChallengeSize <= 3 * received[to]);
            }
            CHECK((!world.path.next_deadline() || *world.path.next_deadline() > world.now));
        }
    }
}

}  // namespace
}  // namespace curvegate::handshake::curvecp
