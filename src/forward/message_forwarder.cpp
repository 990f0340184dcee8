#include "forward/message_forwarder.hpp"

#include "io/clock.hpp"

#include <boost/asio/post.hpp>

#include <sys/socket.h>

#include <cerrno>

namespace curvegate::forward {
namespace {

constexpr int kReads = 64;  // of the plain side in one go, so that others get their turn

}  // namespace

MessageForwarder::MessageForwarder(io::Stream plain, std::unique_ptr<tunnel::MessagePipe> pipe,
                                   const ForwarderLimits& limits, tunnel::Scratch& scratch)
    : plain_(std::move(plain)),
      pipe_(std::move(pipe)),
      limits_(limits),
      scratch_(scratch),
      started_(io::now()),
      active_(started_) {}

void MessageForwarder::start(DoneFn done) {
    done_ = std::move(done);
    // The pipe is ours and calls nothing once it is gone: its handlers need no owner.
    pipe_->on_message = [this](Bytes message) { return on_message(message); };
    pipe_->on_drained = [this] { on_drained(); };
    pipe_->on_end = [this](tunnel::End end) { on_tunnel_end(end); };
    wait_plain();
    // What came with the handshake is there already, and may be the end.
    asio::post(plain_.get_executor(), [weak = weak_from_this()] {
        const auto self = weak.lock();
        if (self && self->running()) self->pipe_->start();
    });
}

void MessageForwarder::stop(Ending why) {
    finish(why);
}

// ---- plain -> tunnel ----

void MessageForwarder::wait_plain() {
    plain_.async_wait(io::Stream::wait_read, [weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (!error && self && self->running() && !self->up_lost_) self->on_plain_readable();
    });
}

void MessageForwarder::on_plain_readable() {
    pipe_->hold();
    bool more = true;
    for (int reads = 0; more && reads < kReads && pipe_->backlog() < kMostWaiting; ++reads)
        more = take_record();
    if (!running()) return;
    pipe_->flush();
    if (!pipe_->takes_more()) return on_tunnel_broken();
    if (up_ == Direction::ending) return send_end();
    if (pipe_->backlog() == 0) wait_plain();  // else back-pressure: on_drained() goes on
}

// Returns false if there is no more for now, or this direction is over.
bool MessageForwarder::take_record() {
    const auto room = scratch_.bytes().first(pipe_->most());
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): it does not block
    const ssize_t size = ::recv(plain_.native_handle(), room.data(), room.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (io::would_block(size)) return false;
    active_ = io::now();
    if (size < 0) lose_plain(errno);
    if (size <= 0) {  // or an empty record: nothing tells them apart
        up_ = Direction::ending;
        return false;
    }
    const auto length = static_cast<std::size_t>(size);
    if (length > room.size()) {
        drain_plain(Ending::too_long);
        return false;
    }
    if (!pipe_->send(room.first(length))) return false;  // the pipe says why, by its end
    summary_.bytes_up += length;
    return true;
}

void MessageForwarder::send_end() {
    // An application that was lost has no end that could be told.
    if (!plain_lost_ && !pipe_->send({})) return on_tunnel_broken();
    if (pipe_->backlog() == 0) on_drained();
}

void MessageForwarder::on_drained() {
    if (!running() || up_lost_) return;
    if (!pipe_->takes_more()) return on_tunnel_broken();
    active_ = io::now();
    if (up_ == Direction::open) return wait_plain();
    up_ = Direction::closed;
    finish_soon();
}

// What the peer sent before is still to come, and is delivered first.
void MessageForwarder::on_tunnel_broken() {
    if (down_ != Direction::open) return drain_plain(Ending::tunnel_cut);
    up_lost_ = true;
}

// ---- tunnel -> plain ----

bool MessageForwarder::on_message(Bytes message) {
    active_ = io::now();
    if (down_ != Direction::open) {
        drain_plain(Ending::after_end);
        return false;
    }
    if (!message.empty()) return deliver(message);
    down_ = Direction::closed;
    error_code ignored;
    plain_.shutdown(io::Stream::shutdown_send, ignored);
    finish_soon();
    return true;
}

// Returns false if it waits for the application.
bool MessageForwarder::deliver(Bytes record) {
    if (plain_lost_) return true;                     // nobody is left to take it
    const auto sent = io::send_some(plain_, record);  // the whole record or nothing
    if (!sent) {
        lose_plain(errno);
        return static_cast<bool>(done_);
    }
    if (*sent == 0) {
        pending_.assign(record.begin(), record.end());
        plain_.async_wait(io::Stream::wait_write, [weak = weak_from_this()](error_code error) {
            const auto self = weak.lock();
            if (!error && self && self->done_) self->on_plain_writable();
        });
        return false;
    }
    summary_.bytes_down += record.size();
    return true;
}

void MessageForwarder::on_plain_writable() {
    const auto record = std::exchange(pending_, {});
    active_ = io::now();
    if (deliver(record) && running()) pipe_->resume();
}

void MessageForwarder::on_tunnel_end(tunnel::End end) {
    if (!running()) return;
    // Both ends had been told: a peer that has everything may leave first.
    const bool complete = up_ == Direction::closed && down_ == Direction::closed;
    if (complete) return;
    // An end in order is an empty message: without it a peer that closes has cut the tunnel.
    drain_plain(end == tunnel::End::closed ? Ending::tunnel_cut : ending_of(end));
}

// ---- the end ----

// As ByteForwarder::lose_plain().
void MessageForwarder::lose_plain(int code) {
    if (!done_ || plain_lost_) return;
    plain_lost_ = loss_of_plain(code);
    pending_ = {};
    if (draining_ || up_lost_) return finish(*plain_lost_);
    io::when_drained(
        plain_.get_executor(), limits_.drain,
        [weak = weak_from_this()] {
            const auto self = weak.lock();
            return !self || self->has_left();
        },
        [weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->finish(*self->plain_lost_);
        });
}

bool MessageForwarder::has_left() {
    return !done_ || up_lost_ || (up_ == Direction::closed && pipe_->is_delivered());
}

void MessageForwarder::finish_if_over() {
    if (plain_lost_) return;  // when_drained() looks by itself
    if (!running() || down_ != Direction::closed) return;
    if (up_lost_) return drain_plain(Ending::tunnel_cut);
    if (up_ == Direction::closed) finish(Ending::orderly);
}

// Not from within a handler of the pipe, which is closed then.
void MessageForwarder::finish_soon() {
    asio::post(plain_.get_executor(), [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->finish_if_over();
    });
}

// The tunnel is over, without an end. The application gets what came before, and then a close.
void MessageForwarder::drain_plain(Ending why) {
    if (!running()) return;
    if (plain_lost_) return finish(*plain_lost_);
    draining_ = true;
    pipe_->close();
    io::when_drained(
        plain_.get_executor(), limits_.drain,
        [weak = weak_from_this()] {
            const auto self = weak.lock();
            return !self || !self->done_ || (self->pending_.empty() && io::is_delivered(self->plain_));
        },
        [weak = weak_from_this(), why] {
            if (const auto self = weak.lock()) self->finish(why);
        });
}

void MessageForwarder::finish(Ending why) {
    if (!done_) return;
    const auto self = shared_from_this();
    error_code ignored;
    plain_.close(ignored);
    pipe_->close();
    summary_.ending = why;
    summary_.lasted = io::now() - started_;
    // The pipe may be what calls us.
    asio::post(plain_.get_executor(), [pipe = std::move(pipe_), self] {});
    auto done = std::exchange(done_, nullptr);
    done(summary_);
}

void MessageForwarder::sweep(Instant at) {
    if (!running()) return;
    if (at - active_ >= limits_.idle) return drain_plain(Ending::idle);
    if (limits_.max_session && at >= *limits_.max_session) return drain_plain(Ending::max_session);
    if (pipe_->is_silent(limits_.dead_peer)) drain_plain(Ending::dead_peer);
}

}  // namespace curvegate::forward
