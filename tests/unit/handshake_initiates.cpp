#include "handshake/curvecp/initiates.hpp"
#include "support/vault.hpp"

#include <catch2/catch.hpp>

#include <vector>

/// When a client's Initiates go, and whether it starts afresh (PROTOCOL 7.4, 7.5), under virtual time.
namespace curvegate::handshake::curvecp {
namespace {

using namespace std::chrono_literals;
using test::kStart;
using Times = std::vector<Duration>;

/// An actor with a number of messages to send, and the times at which they went.
class World {
  public:
    InitiateSchedule schedule;
    Instant now = kStart;
    std::size_t waiting = 0;  ///< messages
    Times sent;               ///< since the start

    void write(std::size_t messages) {
        waiting += messages;
        send();
    }
    /// Lets that time come: looks at each deadline, and once more a moment before it, when nothing may
    /// change.
    void run_to(Duration span) {
        const Instant end = kStart + span;
        while (schedule.next_deadline() && *schedule.next_deadline() <= end) {
            const Instant due = std::max(now, *schedule.next_deadline());
            if (due > now) {
                schedule.on_deadline(due - 1ns);
                CHECK_FALSE(schedule.may_send());
            }
            now = due;
            schedule.on_deadline(now);
            CHECK(schedule.may_send());
            send();
        }
        now = end;
    }

  private:
    void send() {
        for (; waiting > 0 && schedule.may_send(); --waiting) {
            schedule.sent();
            sent.push_back(now - kStart);
        }
    }
};

TEST_CASE("no Initiate goes before the vouch is made", "[initiates]") {
    World world;
    world.write(1);
    CHECK_FALSE(world.schedule.may_send());
    CHECK(world.schedule.next_deadline() == std::nullopt);
    world.schedule.on_deadline(kStart + 1h);
    CHECK_FALSE(world.schedule.may_send());
}

TEST_CASE("four Initiates go at once, then one every 250 ms", "[initiates]") {
    World world;
    world.schedule.begin(world.now);
    world.write(100);
    world.run_to(1s);
    CHECK(world.sent == Times{0s, 0s, 0s, 0s, 250ms, 500ms, 750ms, 1s});
}

TEST_CASE("Initiates go as far as there is something to send", "[initiates]") {
    struct Case {
        std::string what;
        std::vector<std::pair<Duration, std::size_t>> writes;  ///< when, how many messages
        Times sent;
    };
    const auto [what, writes, sent] = GENERATE(values<Case>({
        {"a ping, then silence", {{0s, 1}}, {0s}},
        {"the rest of the first four later", {{0s, 1}, {100ms, 5}}, {0s, 100ms, 100ms, 100ms, 250ms, 500ms}},
        {"a message now and then", {{0s, 4}, {300ms, 1}, {600ms, 1}}, {0s, 0s, 0s, 0s, 300ms, 600ms}},
        // One was allowed at 250 ms and the next at 500 ms, when that one was still there.
        {"many after a pause", {{0s, 4}, {1s, 4}}, {0s, 0s, 0s, 0s, 1s, 1s, 1'250ms, 1'500ms}},
    }));
    INFO(what);
    World world;
    world.schedule.begin(world.now);
    for (const auto& [at, messages] : writes) {
        world.run_to(at);
        world.write(messages);
    }
    world.run_to(2s);
    CHECK(world.sent == sent);
}

TEST_CASE("what nobody needed of the first four is forgotten when a deadline has come", "[initiates]") {
    World world;
    world.schedule.begin(world.now);
    world.write(1);
    world.run_to(3s);
    world.schedule.on_deadline(world.now);  // the handshake's
    world.write(2);
    world.run_to(4s);
    CHECK(world.sent == Times{0s, 3s, 3'250ms});
}

TEST_CASE("a client that has told something goes on with its Initiates", "[initiates]") {
    World world;
    world.schedule.begin(world.now);
    world.write(100);
    world.run_to(300ms);
    CHECK_FALSE(world.schedule.starts_afresh(Told::something));
    world.run_to(500ms);
    CHECK(world.sent == Times{0s, 0s, 0s, 0s, 250ms, 500ms});
}

TEST_CASE("a client that has told nothing starts afresh: silence until there is a new vouch", "[initiates]") {
    World world;
    world.schedule.begin(world.now);
    world.write(1);
    CHECK(world.schedule.starts_afresh(Told::nothing));
    CHECK_FALSE(world.schedule.may_send());
    CHECK(world.schedule.next_deadline() == std::nullopt);
    world.schedule.on_deadline(kStart + 1s);
    CHECK_FALSE(world.schedule.may_send());
    world.run_to(1s);
    world.schedule.begin(world.now);
    world.write(6);
    world.run_to(2s);
    CHECK(world.sent == Times{0s, 1s, 1s, 1s, 1s, 1'250ms, 1'500ms});
}

}  // namespace
}  // namespace curvegate::handshake::curvecp
