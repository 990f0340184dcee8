#pragma once

#include "base/path.hpp"
#include "base/random.hpp"
#include "base/time.hpp"
#include "wire/curvecp.hpp"
#include "wire/curvecp_message.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <optional>

/// Where a server's packets go while its client moves (PROTOCOL 7.7). No socket, no clock, no session:
/// whoever uses it opens and seals.
namespace curvegate::handshake::curvecp {

/// A message of one empty block with this id is to go there. Whoever has the session acknowledges it by the
/// id.
struct Challenge {
    Path to;
    wire::curvecp::MessageId id;
};
/// The bytes of a challenge's packet.
inline constexpr std::size_t kChallengeSize = wire::curvecp::kServerOverhead + wire::curvecp::kMessageHeader;

/// What a packet or a deadline leads to. The challenges count as sent.
struct Reaction {
    std::optional<Challenge> to_proven;
    std::array<std::optional<Challenge>, 2> to_candidate;
    bool has_moved = false;  ///< the candidate is the path now; times and congestion start afresh
};

/// A packet of the client's that its session has opened.
struct Arrival {
    const Path& from;
    bool newest;                     ///< its number is above all before
    std::size_t size;                ///< of the whole packet
    wire::curvecp::MessageId acked;  ///< what its message acknowledges by name; 0: none
};

/// The path of one connection: the proven one, and for a while a candidate that the client may have moved to.
class PathValidator {
  public:
    static constexpr Duration kChallengeAgain = std::chrono::milliseconds(500);
    static constexpr Duration kGiveUp = std::chrono::seconds(10);
    static constexpr std::size_t kUnprovenTimes = 3;  // PROTOCOL 7.7, rule 5

    /// `proven`: where the accepted Initiate came from. Ids of challenges are drawn from `random`, which
    /// outlives this.
    PathValidator(const Path& proven, RandomSource& random) : proven_(proven), random_(&random) {}

    /// Would this packet begin a move? If its client may not be there (rule 2), do not take() it.
    [[nodiscard]] bool begins_move(const Arrival& packet) const {
        return packet.newest && packet.from != proven_ && (!candidate_ || packet.from != candidate_->path);
    }
    /// Takes a packet.
    [[nodiscard]] Reaction take(const Arrival& packet, Instant now);
    /// Gives up the candidate, or gives the challenges that are to go there again.
    [[nodiscard]] Reaction on_deadline(Instant now);
    /// When to call on_deadline(); nullopt: never.
    [[nodiscard]] Deadline next_deadline() const {
        if (!candidate_) return std::nullopt;
        return std::min(candidate_->challenge_again, candidate_->give_up);
    }

    /// The last path that the client has proven to be at.
    [[nodiscard]] const Path& proven() const noexcept { return proven_; }
    /// Bytes that may go to where the client seems to be now.
    [[nodiscard]] std::size_t allowance() const noexcept {
        if (!candidate_) return std::numeric_limits<std::size_t>::max();
        const std::size_t most = kUnprovenTimes * candidate_->received;
        return most - std::min(most, candidate_->sent);
    }
    /// Where so many bytes go: what is more than may go to the candidate goes to the proven path.
    [[nodiscard]] const Path& path_for(std::size_t bytes) const noexcept {
        return candidate_ && bytes <= allowance() ? candidate_->path : proven_;
    }
    /// So many bytes have gone there.
    void sent(const Path& to, std::size_t bytes) noexcept {
        if (candidate_ && to == candidate_->path) candidate_->sent += bytes;
    }

  private:
    static constexpr std::size_t kProofs = 2;  // rule 3: ids that the candidate must name

    struct Candidate {
        Path path;
        std::array<wire::curvecp::MessageId, kProofs> ids;
        Instant challenge_again;
        Instant give_up;
        std::array<bool, kProofs> named{};
        std::size_t received = 0;  // bytes
        std::size_t sent = 0;
    };

    [[nodiscard]] wire::curvecp::MessageId fresh_id();
    void challenge(Reaction& out, Instant now);
    [[nodiscard]] bool has_named_all(wire::curvecp::MessageId acked);

    Path proven_;
    RandomSource* random_;
    std::unique_ptr<Candidate> candidate_;  // mostly there is none
};

}  // namespace curvegate::handshake::curvecp
