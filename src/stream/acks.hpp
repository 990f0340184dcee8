#pragma once

#include "base/time.hpp"
#include "stream/ring.hpp"
#include "wire/curvecp_message.hpp"

#include <optional>

namespace curvegate::stream {

/// Which messages of the peer are to be acknowledged, and when (PROTOCOL 9.1). A peer of our kind gets one
/// acknowledgment for many, after two messages or 5 ms. Any other gets one for each, at once, since it
/// measures its round trips by them.
class Acks {
  public:
    enum class Urgency {
        soon,  ///< in order: it may wait for a second message
        now,   ///< the peer wants to know: a hole, the end, a ping
    };
    enum class ById {
        named,   ///< the acknowledgment may tell the peer the message's id
        hidden,  ///< it must not
    };
    /// A message with an id arrived.
    void owe(wire::curvecp::MessageId id, ById by_id, Urgency urgency, Instant now);
    /// A ping arrived: it gets an acknowledgment of its own, which names it.
    void owe_ping(wire::curvecp::MessageId id) noexcept;
    void peer_is_ours() noexcept;

    /// One is to be sent now.
    [[nodiscard]] bool due(Instant now) const noexcept;
    [[nodiscard]] Deadline deadline() const noexcept { return deadline_; }
    /// More than one is to be sent: the peer wants each id in a message of its own.
    [[nodiscard]] bool more_to_name() const noexcept { return ids_.size() > 1; }
    /// The id that the next acknowledgment names; 0: none. It is named no more after this.
    [[nodiscard]] wire::curvecp::MessageId take() noexcept;
    void release() noexcept {
        if (ids_.empty()) ids_.release();
    }

  private:
    void queue(std::uint32_t id) noexcept;
    [[nodiscard]] bool is_first_time(std::uint32_t id) noexcept;

    bool ours_ = false;
    wire::curvecp::MessageId newest_;  // to be named to a peer of our kind
    unsigned owed_ = 0;                // messages since the last acknowledgment
    Deadline deadline_;                // of a peer of our kind
    Ring<std::uint32_t> ids_;  // to be named one by one: pings, and all of another peer; 0: without a name
    // The newest id so far and which of the 64 before it were there.
    std::uint32_t last_id_ = 0;
    std::uint64_t before_ = 0;
};

}  // namespace curvegate::stream
