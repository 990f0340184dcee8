#pragma once

#include "base/time.hpp"
#include "stream/stream.hpp"

/// How long a connection waits for its peer (PROTOCOL 9.5, 9.6). No socket, no clock: whoever uses it asks
/// what to do, and when to ask again.
namespace curvegate::stream {

/// Which program the peer is: one that has shown our extension, or perhaps a foreign one, which acknowledges
/// nothing while its application does not read (PROTOCOL 9.7).
enum class Peer { ours, foreign };

/// What decides how long a connection goes on that nobody uses any more; each as Stream has it.
struct Standing {
    Peer peer = Peer::foreign;
    std::uint64_t acknowledged = 0;  ///< bytes
    bool owes_bytes = false;
    bool aborted = false;
    bool outgoing_done = false;
    bool done = false;
    bool peer_failed = false;  ///< its direction has ended as a failure: it has nobody to read what it lacks
    Duration round_trip{};     ///< smoothed
};
[[nodiscard]] Peer peer_of(const Stream& stream);
[[nodiscard]] Standing standing_of(const Stream& stream);

/// Does anybody wait to hear that nothing is owed to the peer any more?
enum class Audience { nobody, waits };

enum class Verdict {
    go_on,
    tell_delivered,  ///< whoever waits for it; and go on. At most once
    forget,          ///< TIME-WAIT is over
    give_up,         ///< the peer acknowledges nothing
};

/// The patience of one connection. While somebody uses it, it is a peer's that answers nothing at all. After
/// release() nobody waits for the connection but its peer, who may talk for ever and acknowledge nothing, so
/// only what is newly acknowledged begins the wait anew. Times passed in never decrease.
class Patience {
  public:
    // What this program chose.
    static constexpr Duration kTimeWait = std::chrono::seconds(3);
    static constexpr Duration kForeign = std::chrono::minutes(10);  ///< at least
    /// How long a failure is repeated that nobody acknowledges.
    static constexpr Duration kFailure = std::chrono::seconds(10);
    /// After so long without an acknowledgment nobody waits for that of an end alone: beside some round
    /// trips.
    static constexpr Duration kMoment = std::chrono::seconds(1);
    static constexpr int kMomentTrips = 4;

    /// `dead_peer`: how long a peer of our kind may answer nothing.
    explicit Patience(Duration dead_peer) noexcept : dead_peer_(dead_peer) {}

    /// When a peer that owes an answer since then (Stream::silent_since()) is dead; nullopt: it owes none.
    [[nodiscard]] Deadline dead_at(Deadline silent_since, Peer peer) const noexcept;

    /// The user has gone. `acknowledged`: bytes that the peer has. Once.
    void release(std::uint64_t acknowledged, Audience audience, Instant now) noexcept;
    [[nodiscard]] bool is_released() const noexcept { return progress_.has_value(); }
    /// What to do now. Before release(): go on.
    [[nodiscard]] Verdict judge(const Standing& stream, Instant now) noexcept;
    /// When to ask judge() again, if nothing comes before; nullopt: before release().
    [[nodiscard]] Deadline next_deadline(const Standing& stream) const noexcept;

  private:
    struct Progress {
        std::uint64_t acknowledged;
        Instant since;
    };
    [[nodiscard]] Duration with(Peer peer) const noexcept;
    [[nodiscard]] Instant gives_up_at(const Standing& stream) const noexcept;
    [[nodiscard]] Instant hurries_at(const Standing& stream) const noexcept;

    Duration dead_peer_;
    std::optional<Progress> progress_;  // from release() on
    Deadline forget_at_;                // in TIME-WAIT
    Audience audience_ = Audience::nobody;
};

}  // namespace curvegate::stream
