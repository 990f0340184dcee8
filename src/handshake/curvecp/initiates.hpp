#pragma once

#include "base/time.hpp"

/// When a client's Initiates go, and whether it may begin again (PROTOCOL 7.4, 7.5). No socket, no clock, no
/// stream: whoever uses it sends.
namespace curvegate::handshake::curvecp {

/// What a server may have heard of a client's stream.
enum class Told {
    nothing,
    something,  ///< a byte of the stream, or its end, has left in a packet
};

/// How many Initiates of one client may go, and when: some at once, then one at a time, as far as there is
/// something to send. Times passed in never decrease.
class InitiateSchedule {
  public:
    // What this program chose. A server checks one Initiate and keeps a few more packets in mind; more of
    // them would be lost.
    static constexpr unsigned kAtOnce = 4;
    static constexpr Duration kAgain = std::chrono::milliseconds(250);

    /// The vouch is made: Initiates may go, until the server is heard and nobody asks this any more.
    void begin(Instant now) noexcept;
    [[nodiscard]] bool may_send() const noexcept { return left_ > 0; }
    /// One has gone, which may_send() allowed.
    void sent() noexcept { --left_; }
    /// No answer has come for a while (action::AskAfresh). Returns true if the client is to start afresh:
    /// then no Initiate goes until the next begin(). A client that has told something goes on as before.
    [[nodiscard]] bool starts_afresh(Told told) noexcept;

    /// Looks whether the time for one more has come. What was allowed before and not needed is forgotten: one
    /// may go, and the next one 250 ms after that was allowed, however late it goes.
    void on_deadline(Instant now) noexcept;
    /// When to call on_deadline(); nullopt: not before sent() or begin().
    [[nodiscard]] Deadline next_deadline() const noexcept { return may_send() ? std::nullopt : next_; }

  private:
    Deadline next_;      // when one more may go; nullopt: not begun
    unsigned left_ = 0;  // that may go before
};

}  // namespace curvegate::handshake::curvecp
