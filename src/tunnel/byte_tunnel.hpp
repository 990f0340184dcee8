#pragma once

#include "base/bytes.hpp"
#include "base/time.hpp"
#include "tunnel/end.hpp"

#include <sys/uio.h>

#include <functional>
#include <span>

namespace curvegate::tunnel {

/// A connected tunnel whose user has a stream of bytes each way, whatever the wire. It lends its own memory
/// for reading into and writing out of, so that no byte is copied more often than its wire needs. One thread;
/// destroying it ends it: a wire that goes on to deliver without its user does so by itself.
class ByteTunnel {
  public:
    virtual ~ByteTunnel() = default;

    /// Events come from here on: set on_event and on_end before. What came with the handshake makes one.
    virtual void start() = 0;

    // ---- out ----

    /// Memory to read into, in one or more parts; empty if nothing may be written now, until an event. Good
    /// until the next call of the tunnel or the return to the event loop.
    [[nodiscard]] virtual std::span<iovec> prepare() = 0;
    /// The first `size` bytes of prepare() are written; 0: none were needed. Follows every prepare() that was
    /// not empty.
    virtual void commit(std::size_t size) = 0;
    /// What was committed, consumed or ended may go out now. A wire may send it earlier.
    virtual void flush() = 0;
    /// The local side has ended: tells the peer after all that was committed.
    virtual void finish() = 0;
    /// The local side was lost: all that was committed goes out, and then no end of stream but a failure.
    virtual void fail_after_all() = 0;
    /// Gives up now; on_end is not called any more. What is readable stays, and more may become so.
    virtual void abort() = 0;
    /// After finish() or fail_after_all(): has that left our hands? An event comes when it does. Where a wire
    /// delivers without its user, at once.
    [[nodiscard]] virtual bool end_is_told() const = 0;
    /// The same, and has the peer's machine all of it, or can it never? No event tells. Where a wire delivers
    /// without its user, as soon as the end is told.
    [[nodiscard]] virtual bool is_delivered() = 0;

    // ---- in ----

    /// What has come, in order, in one or more parts; good until consumed, until the next call of prepare(),
    /// or until the return to the event loop.
    [[nodiscard]] virtual std::span<iovec> readable() = 0;
    /// The first `size` bytes of readable() are not needed any more.
    virtual void consume(std::size_t size) = 0;
    /// What comes after readable().
    enum class Incoming {
        open,    ///< more may come
        ended,   ///< the peer's end of stream
        failed,  ///< a failure of the peer
    };
    [[nodiscard]] virtual Incoming incoming() const = 0;

    // ---- both ----

    /// Is nothing missing at either end, so that it is no loss if the peer goes?
    [[nodiscard]] virtual bool is_complete() const = 0;
    /// Does the peer leave bytes unacknowledged, and has been silent for `dead_peer`? Always false where the
    /// wire finds that out by itself and ends.
    [[nodiscard]] virtual bool is_silent(Duration dead_peer) = 0;

    /// Something came, or there is room, or a direction has ended: look. Never called from within a call of
    /// the user.
    std::function<void()> on_event;
    /// The tunnel takes nothing more; what is readable may still be consumed. Once, and never from within a
    /// call of the user. After it prepare() gives nothing, and flush(), finish(), fail_after_all() and
    /// abort() send nothing: users need not remember that it came.
    std::function<void(End)> on_end;
};

}  // namespace curvegate::tunnel
