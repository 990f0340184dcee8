#include "stream/patience.hpp"
#include "support/stream_messages.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

/// How long a connection waits for its peer (PROTOCOL 9.5, 9.6), under virtual time.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;
using stream::Audience;
using stream::Patience;
using stream::Peer;
using stream::Standing;
using stream::Verdict;

TEST_CASE("a peer is dead when it has answered nothing for dead-peer, a foreign one after 10 min at least",
          "[patience]") {
    struct Case {
        Duration dead_peer;
        Peer peer;
        Duration patience;
    };
    const auto [dead_peer, peer, patience] = GENERATE(values<Case>({
        {60s, Peer::ours, 60s},
        {60s, Peer::foreign, 10min},
        {20min, Peer::ours, 20min},
        {20min, Peer::foreign, 20min},
    }));
    CHECK(Patience(dead_peer).dead_at(kNoon, peer) == kNoon + patience);
    CHECK(Patience(dead_peer).dead_at(std::nullopt, peer) == std::nullopt);
}

/// What a released connection does at which time after the release: its user left at noon.
struct Fate {
    std::optional<Duration> delivered;  ///< when its audience is told
    std::optional<Duration> ended;
    Verdict how = Verdict::go_on;
    bool operator==(const Fate&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Fate& fate) {
    const auto seconds = [&out](const std::optional<Duration>& time) {
        time ? out << std::chrono::duration<double>(*time).count() << " s" : out << "never";
    };
    out << "delivered ";
    seconds(fate.delivered);
    out << ", ended ";
    seconds(fate.ended);
    return out << " with verdict " << static_cast<int>(fate.how);
}

/// An actor that does what it is told and when. Asked a moment before a deadline, nothing may come of it.
class Released {
  public:
    explicit Released(const Standing& standing, Duration dead_peer = 60s, Audience audience = Audience::waits)
        : stream(standing), patience_(dead_peer) {
        patience_.release(stream.acknowledged, audience, kNoon);
        judge(0s);
    }

    Standing stream;
    Fate fate;

    /// A packet has changed the standing: the actor asks at that time, and goes on.
    void hear(Duration at, const Standing& changed) {
        run_to(at);
        stream = changed;
        judge(at);
    }
    void run_to(Duration end) {
        while (!fate.ended) {
            const auto deadline = patience_.next_deadline(stream);
            REQUIRE(deadline.has_value());
            const Duration due = *deadline - kNoon;
            if (due > end) return;
            REQUIRE(due > now_);
            CHECK(patience_.judge(stream, *deadline - 1ns) == Verdict::go_on);
            judge(due);
        }
    }

  private:
    void judge(Duration at) {
        now_ = at;
        const Verdict verdict = patience_.judge(stream, kNoon + at);
        if (verdict == Verdict::go_on) return;
        if (verdict == Verdict::tell_delivered) {
            CHECK_FALSE(fate.delivered);
            fate.delivered = at;
            return;
        }
        fate.ended = at;
        fate.how = verdict;
    }

    Patience patience_;
    Duration now_{};
};

Fate fate_of(const Standing& standing, Duration dead_peer = 60s, Audience audience = Audience::waits) {
    Released released(standing, dead_peer, audience);
    released.run_to(24h);
    return released.fate;
}

// What a stream may have come to when its user leaves; round trips of 100 ms.
constexpr Standing kOwesBytes{.peer = Peer::ours, .owes_bytes = true, .round_trip = 100ms};
constexpr Standing kOwesEnd{.peer = Peer::ours, .round_trip = 100ms};
constexpr Standing kEndAcknowledged{.peer = Peer::ours, .outgoing_done = true, .round_trip = 100ms};
constexpr Standing kAllDone{.peer = Peer::ours, .outgoing_done = true, .done = true, .round_trip = 100ms};
constexpr Standing kFailed{.peer = Peer::ours, .aborted = true, .round_trip = 100ms};
constexpr Standing kFailureHeard{
    .peer = Peer::ours, .aborted = true, .outgoing_done = true, .round_trip = 100ms};
constexpr Standing kBothFailed{.peer = Peer::ours, .aborted = true, .peer_failed = true, .round_trip = 100ms};
constexpr Standing kPeerFailed{
    .peer = Peer::ours, .owes_bytes = true, .peer_failed = true, .round_trip = 100ms};

Standing of_foreign(Standing standing) {
    standing.peer = Peer::foreign;
    return standing;
}

TEST_CASE("how long a released connection goes on, and when nothing is owed any more", "[patience]") {
    struct Case {
        std::string what;
        Standing standing;
        Duration dead_peer;
        Fate fate;
    };
    constexpr auto forget = Verdict::forget;
    constexpr auto give_up = Verdict::give_up;
    const auto [what, standing, dead_peer, fate] = GENERATE(values<Case>({
        {"both ends are there", kAllDone, 60s, {0s, 3s, forget}},
        {"the peer has not ended", kEndAcknowledged, 60s, {1'400ms, 3s, forget}},
        {"bytes are owed", kOwesBytes, 60s, {std::nullopt, 60s, give_up}},
        {"bytes are owed to a foreign peer", of_foreign(kOwesBytes), 60s, {std::nullopt, 10min, give_up}},
        {"the same, patience is longer", of_foreign(kOwesBytes), 20min, {std::nullopt, 20min, give_up}},
        {"an end is owed", kOwesEnd, 60s, {1'400ms, 60s, give_up}},
        {"an end is owed to a foreign peer", of_foreign(kOwesEnd), 60s, {1'400ms, 60s, give_up}},
        {"a failure is owed", kFailed, 60s, {1'400ms, 10s, give_up}},
        {"a failure is owed to a foreign peer", of_foreign(kFailed), 60s, {1'400ms, 10s, give_up}},
        {"a failure is owed, patience is shorter", kFailed, 7s, {1'400ms, 7s, give_up}},
        {"a failure is acknowledged", kFailureHeard, 60s, {0s, 3s, forget}},
        {"the peer has failed too", kBothFailed, 60s, {1'400ms, 3s, forget}},
        {"the peer has failed and lacks bytes", kPeerFailed, 60s, {std::nullopt, 3s, forget}},
        {"the peer is dead before TIME-WAIT is over", kAllDone, 2s, {0s, 2s, give_up}},
        {"the peer would be dead at the same time", kAllDone, 3s, {0s, 3s, forget}},
        {"patience is shorter than a moment", kOwesEnd, 1s, {std::nullopt, 1s, give_up}},
    }));
    INFO(what);
    CHECK(fate_of(standing, dead_peer) == fate);
}

TEST_CASE("nobody who waits is told nothing, and costs no deadline", "[patience]") {
    Patience patience(60s);
    patience.release(0, Audience::nobody, kNoon);
    CHECK(patience.judge(kOwesEnd, kNoon) == Verdict::go_on);
    CHECK(patience.next_deadline(kOwesEnd) == kNoon + 60s);
    CHECK(fate_of(kAllDone, 60s, Audience::nobody) == Fate{std::nullopt, 3s, Verdict::forget});
}

TEST_CASE("before the release there is nothing to judge", "[patience]") {
    Patience patience(60s);
    CHECK_FALSE(patience.is_released());
    CHECK(patience.judge(kAllDone, kNoon + 24h) == Verdict::go_on);
    CHECK(patience.next_deadline(kAllDone) == std::nullopt);
    patience.release(0, Audience::waits, kNoon + 24h);
    CHECK(patience.is_released());
    CHECK(patience.judge(kOwesBytes, kNoon + 24h) == Verdict::go_on);
}

TEST_CASE("what is newly acknowledged begins the wait anew, and nothing else does", "[patience]") {
    Released released(kOwesBytes);
    Standing more = kOwesBytes;
    more.acknowledged = 1;
    released.hear(59s, more);
    released.hear(100s, more);  // acknowledges nothing
    released.run_to(24h);
    CHECK(released.fate == Fate{std::nullopt, 119s, Verdict::give_up});
}

TEST_CASE("what was acknowledged before the release does not count as new", "[patience]") {
    Standing standing = kOwesBytes;
    standing.acknowledged = 1'000;
    Patience patience(60s);
    patience.release(1'000, Audience::waits, kNoon);
    CHECK(patience.judge(standing, kNoon + 30s) == Verdict::go_on);
    CHECK(patience.next_deadline(standing) == kNoon + 60s);
}

TEST_CASE("the last bytes acknowledged, an end alone is waited for a moment more", "[patience]") {
    Released released(kOwesBytes);
    Standing all = kOwesEnd;
    all.acknowledged = 1;
    released.hear(5s, all);
    released.run_to(24h);
    CHECK(released.fate == Fate{5s + 1'400ms, 65s, Verdict::give_up});
}

TEST_CASE("TIME-WAIT begins when the end is acknowledged, and lasts 3 s whatever comes", "[patience]") {
    Released released(kOwesBytes);
    Standing done = kAllDone;
    done.acknowledged = 1;
    released.hear(5s, done);
    CHECK(released.fate.delivered == Duration(5s));
    released.hear(7s, done);  // the peer repeats its end
    released.run_to(24h);
    CHECK(released.fate == Fate{5s, 8s, Verdict::forget});
}

TEST_CASE("who has been told is told no second time", "[patience]") {
    Released released(kOwesEnd);
    released.run_to(2s);
    REQUIRE(released.fate.delivered == Duration(1'400ms));
    released.hear(4s, kAllDone);  // told again it would fail here
    released.run_to(24h);
    CHECK(released.fate == Fate{1'400ms, 7s, Verdict::forget});
}

TEST_CASE("a stream's standing is what it says of itself", "[patience]") {
    Alone end({}, GENERATE(true, false));
    end.write(1'000);
    REQUIRE_FALSE(end.all().empty());
    Standing standing = standing_of(end.stream);
    CHECK(standing.peer == Peer::foreign);  // not shown yet
    CHECK(standing.owes_bytes);
    CHECK(standing.acknowledged == 0);
    end.now += 80ms;
    REQUIRE(end.give_ack(1'000, 1).has_value());
    standing = standing_of(end.stream);
    CHECK(standing.peer == (end.ours ? Peer::ours : Peer::foreign));
    CHECK_FALSE(standing.owes_bytes);
    CHECK(standing.acknowledged == 1'000);
    CHECK(standing.round_trip == Duration(80ms));
    CHECK_FALSE(standing.outgoing_done);
    CHECK_FALSE(standing.done);
    CHECK_FALSE(standing.peer_failed);
}

TEST_CASE("a stream's standing at the end", "[patience]") {
    Alone end;
    const bool aborts = GENERATE(false, true);
    const auto how = GENERATE(StreamEnd::eof, StreamEnd::failure);
    if (aborts) end.stream.abort();
    end.stream.finish();
    REQUIRE(end.all().size() == 1);
    CHECK(standing_of(end.stream).aborted == aborts);
    CHECK_FALSE(standing_of(end.stream).outgoing_done);
    REQUIRE(end.give_ack(1).has_value());
    CHECK(standing_of(end.stream).outgoing_done);
    CHECK_FALSE(standing_of(end.stream).done);
    REQUIRE(end.give_block(7, 0, 0, how).has_value());
    const Standing standing = standing_of(end.stream);
    CHECK(standing.done);
    CHECK(standing.peer_failed == (how == StreamEnd::failure));
}

}  // namespace
}  // namespace curvegate::test
