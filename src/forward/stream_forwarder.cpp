#include "forward/stream_forwarder.hpp"

#include "io/clock.hpp"
#include "io/socket_options.hpp"

#include <boost/asio/post.hpp>

#include <sys/socket.h>

namespace curvegate::forward {
namespace {

constexpr int kReads = 8;  // of the plain side in one go, so that others get their turn

Ending meaning_of(tunnel::TunnelEnd end) {
    switch (end) {
        case tunnel::TunnelEnd::bad_peer: return Ending::bad_message;
        case tunnel::TunnelEnd::dead_peer: return Ending::dead_peer;
        case tunnel::TunnelEnd::no_answer: return Ending::no_answer;
        case tunnel::TunnelEnd::cannot_ask: return Ending::cannot_ask;
        case tunnel::TunnelEnd::numbers_used_up: return Ending::numbers_used_up;
        case tunnel::TunnelEnd::stopped: return Ending::stopped;
    }
    return Ending::tunnel_cut;
}

}  // namespace

StreamForwarder::StreamForwarder(io::Stream plain, tunnel::TunnelHandle tunnel, const ForwarderLimits& limits)
    : plain_(std::move(plain)),
      tunnel_(std::move(tunnel)),
      limits_(limits),
      started_(io::now()),
      active_(started_) {}

void StreamForwarder::start(DoneFn done) {
    done_ = std::move(done);
    // Weak, as everywhere here: the tunnel is held from here, so nothing that may outlive it holds us.
    tunnel_->on_event = [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->on_tunnel_event();
    };
    tunnel_->on_end = [weak = weak_from_this()](tunnel::TunnelEnd end) {
        if (const auto self = weak.lock()) self->on_tunnel_end(end);
    };
    wait_plain();
    // What came with the handshake, or while the plain side was dialled, makes no event any more.
    asio::post(tunnel_->context(), [weak = weak_from_this()] {
        const auto self = weak.lock();
        if (!self || !self->running()) return;
        const auto ended = self->tunnel_->ended();
        self->on_tunnel_event();
        if (ended && self->running()) self->on_tunnel_end(*ended);
    });
}

void StreamForwarder::stop(Ending why) {
    if (done_) abort_tunnel();
    finish(why);
}

// ---- plain -> tunnel ----

void StreamForwarder::wait_plain() {
    plain_.async_wait(io::Stream::wait_read, [weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (!error && self && self->running()) self->fill_stream();
    });
}

void StreamForwarder::fill_stream() {
    for (int reads = 0; reads < kReads; ++reads) {
        const auto room = stream().prepare();
        if (room.empty()) {
            awaits_room_ = true;  // back-pressure: on_tunnel_event() goes on
            return flush();
        }
        // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): it does not block
        const ssize_t size = ::recv(plain_.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
        const bool nothing_yet = io::would_block(size);
        const auto came = static_cast<std::size_t>(std::max<ssize_t>(size, 0));
        stream().commit(came);
        if (nothing_yet) break;
        active_ = io::now();
        if (size < 0) lose_plain(errno);
        if (size <= 0) return on_plain_end();
        summary_.bytes_up += came;
        if (came < room.size()) break;  // there was no more
    }
    flush();
    wait_plain();
}

void StreamForwarder::on_plain_end() {
    // A plain side that was lost has no end that could be told, whatever the kernel reads to us now.
    if (plain_lost_) return pass_failure_up();
    up_closed_ = true;
    stream().finish();
    flush();
    finish_if_over();
}

// ---- tunnel -> plain ----

void StreamForwarder::on_tunnel_event() {
    if (!done_) return;
    if (running() && std::exchange(awaits_room_, false)) fill_stream();
    if (done_ && plain_lost_) return discard();
    if (done_ && !awaits_plain_ && !down_closed_) empty_stream();
}

void StreamForwarder::empty_stream() {
    bool consumed = false;
    for (Bytes bytes = stream().readable(); !bytes.empty(); bytes = stream().readable()) {
        const auto sent = io::send_some(plain_, bytes);
        if (!sent) return lose_plain(errno);
        if (*sent > 0) {
            active_ = io::now();
            stream().consume(*sent);
            summary_.bytes_down += *sent;
            consumed = true;
        }
        if (*sent == bytes.size()) continue;
        awaits_plain_ = true;
        plain_.async_wait(io::Stream::wait_write, [weak = weak_from_this()](error_code error) {
            const auto self = weak.lock();
            if (!self) return;
            self->awaits_plain_ = false;
            if (!error && self->done_ && !self->plain_lost_) self->empty_stream();
        });
        break;
    }
    if (consumed) flush();
    if (!awaits_plain_ && running()) on_incoming_end();
}

void StreamForwarder::on_incoming_end() {
    if (stream().incoming() == stream::Incoming::open) return;
    if (stream().incoming() == stream::Incoming::failed) return drain_plain(Ending::tunnel_cut);
    down_closed_ = true;
    error_code ignored;
    plain_.shutdown(io::Stream::shutdown_send, ignored);
    finish_if_over();
}

void StreamForwarder::on_tunnel_end(tunnel::TunnelEnd end) {
    tunnel_ended_ = true;
    if (!running()) return;
    if (plain_lost_) return finish(*plain_lost_);
    // Nothing is missing on either side: a peer that has everything may leave before our reader has.
    const bool complete =
        up_closed_ && stream().outgoing_done() && stream().incoming() == stream::Incoming::ended;
    if (!complete) drain_plain(meaning_of(end));
}

// ---- the end ----

void StreamForwarder::flush() {
    if (!tunnel_ended_) tunnel_->flush();
}

// Nobody is left to take what comes; the peer goes on to tell what it has.
void StreamForwarder::discard() {
    while (!stream().readable().empty()) stream().consume(stream().readable().size());
    flush();
}

// The plain side takes no more, but what it sent before, perhaps the reason why, is still to be read and
// passed on; then the stream fails. A peer that does not read may be slow: it has as long as a drain.
void StreamForwarder::lose_plain(int code) {
    if (!done_ || plain_lost_) return;
    plain_lost_ = loss_of_plain(code);
    if (draining_) return finish(*plain_lost_);
    if (up_closed_) return pass_failure_up();
    discard();
    io::when_drained(
        plain_.get_executor(), limits_.drain,
        [weak = weak_from_this()] {
            const auto self = weak.lock();
            return !self || !self->done_;
        },
        [weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->pass_failure_up();
        });
}

void StreamForwarder::pass_failure_up() {
    if (!done_) return;
    stream().fail_after_all();  // nothing, if its end has been told
    flush();
    finish(*plain_lost_);
}

void StreamForwarder::finish_if_over() {
    if (up_closed_ && down_closed_) finish(Ending::orderly);
}

void StreamForwarder::abort_tunnel() {
    stream().abort();
    flush();
}

// The tunnel is over. The plain side gets what was received before, and only then a reset.
void StreamForwarder::drain_plain(Ending why) {
    draining_ = true;
    abort_tunnel();
    if (!awaits_plain_) empty_stream();
    if (!done_) return;
    io::when_drained(
        plain_.get_executor(), limits_.drain,
        [weak = weak_from_this()] {
            const auto self = weak.lock();
            return !self || !self->done_ ||
                   (self->stream().readable().empty() && io::is_delivered(self->plain_));
        },
        [weak = weak_from_this(), why] {
            if (const auto self = weak.lock()) self->finish(why);
        });
}

void StreamForwarder::finish(Ending why) {
    if (!done_) return;
    const auto self = shared_from_this();
    error_code ignored;
    if (why == Ending::orderly) io::allow_orderly_close(plain_.native_handle());
    plain_.close(ignored);
    tunnel_.reset();
    summary_.ending = why;
    summary_.lasted = io::now() - started_;
    auto done = std::exchange(done_, nullptr);
    done(summary_);
}

void StreamForwarder::sweep(Instant at) {
    if (!running() || plain_lost_) return;
    if (at - active_ >= limits_.idle) return drain_plain(Ending::idle);
    if (limits_.max_session && at >= *limits_.max_session) drain_plain(Ending::max_session);
}

}  // namespace curvegate::forward
