#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "io/asio.hpp"
#include "tunnel/end.hpp"

#include <functional>

namespace curvegate::tunnel {

/// A connected tunnel that carries whole messages, whatever its wire: a frame each (PROTOCOL 5), or cut out
/// of a stream (PROTOCOL 10.1). One thread. Handlers are never called from within send(), flush() or close().
class MessagePipe {
  public:
    virtual ~MessagePipe() = default;
    /// The longest message, in bytes.
    [[nodiscard]] virtual std::size_t most() const noexcept = 0;

    /// Bytes that wait because the peer or the network is behind: callers that may drop (datagrams) drop
    /// over a bound of their own, callers that may not (channels) wait for on_drained.
    [[nodiscard]] virtual std::size_t backlog() const noexcept = 0;
    /// Seals and sends one message. Errors: session message_too_long (over most(); the pipe goes on),
    /// numbers_exhausted (the pipe ends); handshake peer_closed (takes_more() is false).
    [[nodiscard]] virtual Result<> send(Bytes message) = 0;
    /// From here on messages are put together until flush(): many small ones go out as one.
    virtual void hold() = 0;
    virtual void flush() = 0;
    /// Returns false if the peer takes nothing more: what waited for it is gone then, but what it sent before
    /// may still come.
    [[nodiscard]] virtual bool takes_more() const noexcept = 0;
    /// backlog() has become 0: all that was sent before has been handed to the network (tcp: the kernel; udp:
    /// the stream), or takes_more() has become false.
    std::function<void()> on_drained;
    /// backlog() is 0, and close() would lose nothing of what was sent: tcp: the peer's kernel has it; udp:
    /// the tunnel delivers it after that.
    [[nodiscard]] virtual bool is_delivered() = 0;
    /// tcp: the peer leaves bytes unacknowledged and has been silent for `dead_peer`. udp: always false, a
    /// tunnel finds that out by itself.
    [[nodiscard]] virtual bool is_silent(Duration dead_peer) = 0;

    /// Reading begins with start() and goes on as long as `on_message` returns true; after false, resume()
    /// goes on. Both may call handlers from within. `message` is gone when the handler returns. Handlers may
    /// close() the pipe.
    std::function<bool(Bytes message)> on_message;
    virtual void start() = 0;
    virtual void resume() = 0;

    /// The pipe ended by itself; called once, after the last on_message. Messages have no end of stream, so
    /// `closed` says only that the peer is gone, whether in order or not (tcp: FIN or RST; udp: its end or
    /// its failure).
    std::function<void(End)> on_end;
    /// Our side ends it: what was sent is still handed over where the wire can; no handler is called any
    /// more.
    virtual void close() = 0;
};

}  // namespace curvegate::tunnel
