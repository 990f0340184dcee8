#include "forward/byte_forwarder.hpp"

#include "io/clock.hpp"
#include "io/socket_options.hpp"

#include <cerrno>

namespace curvegate::forward {
namespace {

// Bytes of the plain side, so that others get their turn.
constexpr std::size_t kReadAtOnce = std::size_t{512} * 1'024;

std::size_t size_of(std::span<const iovec> parts) {
    std::size_t out = 0;
    for (const iovec& part : parts) out += part.iov_len;
    return out;
}

}  // namespace

ByteForwarder::ByteForwarder(io::Stream plain, std::unique_ptr<tunnel::ByteTunnel> tunnel,
                             const ForwarderLimits& limits)
    : plain_(std::move(plain)),
      tunnel_(std::move(tunnel)),
      limits_(limits),
      started_(io::now()),
      active_(started_) {}

void ByteForwarder::start(DoneFn done) {
    done_ = std::move(done);
    // Weak, as everywhere here: the tunnel is held from here, so nothing that may outlive it holds us.
    tunnel_->on_event = [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->on_tunnel_event();
    };
    tunnel_->on_end = [weak = weak_from_this()](tunnel::End end) {
        if (const auto self = weak.lock()) self->on_tunnel_end(end);
    };
    wait_plain();
    tunnel_->start();
}

void ByteForwarder::stop(Ending why) {
    if (done_) tunnel_->abort();
    finish(why);
}

// ---- plain -> tunnel ----

void ByteForwarder::wait_plain() {
    plain_.async_wait(io::Stream::wait_read, [weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (!error && self && self->running()) self->fill_tunnel();
    });
}

void ByteForwarder::fill_tunnel() {
    for (std::size_t total = 0; total < kReadAtOnce;) {
        const auto room = tunnel_->prepare();
        if (room.empty()) {
            awaits_room_ = true;  // back-pressure: on_tunnel_event() goes on
            return tunnel_->flush();
        }
        const std::size_t most = size_of(room);
        const ssize_t size = ::readv(plain_.native_handle(), room.data(), static_cast<int>(room.size()));
        const int failure = errno;
        const bool nothing_yet = io::would_block(size);
        const auto came = static_cast<std::size_t>(std::max<ssize_t>(size, 0));
        summary_.bytes_up += came;
        tunnel_->commit(came);
        if (nothing_yet) break;
        active_ = io::now();
        if (size < 0) lose_plain(failure);
        if (size <= 0) return on_plain_end();
        total += came;
        if (came < most) break;  // there was no more
    }
    tunnel_->flush();
    wait_plain();
}

void ByteForwarder::on_plain_end() {
    if (!running()) return;
    // A plain side that was lost has no end that could be told, whatever the kernel reads to us now.
    if (plain_lost_) return pass_failure_up();
    up_closed_ = true;
    tunnel_->finish();
    tunnel_->flush();
    finish_if_over();
}

// ---- tunnel -> plain ----

// What has come lies in memory that filling may need: it goes first.
void ByteForwarder::on_tunnel_event() {
    if (!done_) return;
    if (plain_lost_) {
        discard();
    } else if (!awaits_plain_ && !down_closed_) {
        empty_tunnel();
    }
    if (!running()) return;
    if (std::exchange(awaits_room_, false)) fill_tunnel();
    if (running()) finish_if_over();
}

void ByteForwarder::empty_tunnel() {
    bool consumed = false;
    for (auto parts = tunnel_->readable(); !parts.empty(); parts = tunnel_->readable()) {
        const std::size_t all = size_of(parts);
        const auto sent = io::send_some(plain_, parts);
        if (!sent) return lose_plain(errno);
        if (*sent > 0 || all == 0) {
            active_ = io::now();
            summary_.bytes_down += *sent;
            consumed = true;
            tunnel_->consume(*sent);
        }
        if (*sent < all) {
            wait_for_plain();
            break;
        }
    }
    if (consumed) tunnel_->flush();
    if (!awaits_plain_ && running()) on_incoming_end();
}

void ByteForwarder::wait_for_plain() {
    awaits_plain_ = true;
    plain_.async_wait(io::Stream::wait_write, [weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (!self) return;
        self->awaits_plain_ = false;
        if (!error && self->done_ && !self->plain_lost_) self->empty_tunnel();
    });
}

void ByteForwarder::on_incoming_end() {
    if (tunnel_->incoming() == tunnel::ByteTunnel::Incoming::open) return;
    if (tunnel_->incoming() == tunnel::ByteTunnel::Incoming::failed) return drain_plain(Ending::tunnel_cut);
    down_closed_ = true;
    error_code ignored;
    plain_.shutdown(io::Stream::shutdown_send, ignored);
    finish_if_over();
}

void ByteForwarder::on_tunnel_end(tunnel::End end) {
    if (!running()) return;
    if (plain_lost_) return finish(*plain_lost_);
    // Nothing is missing on either side: a peer that has everything may leave before our reader has.
    if (!up_closed_ || !tunnel_->is_complete()) drain_plain(ending_of(end));
}

// ---- the end ----

// Nobody is left to take what comes; the peer goes on to tell what it has.
void ByteForwarder::discard() {
    for (auto parts = tunnel_->readable(); !parts.empty(); parts = tunnel_->readable())
        tunnel_->consume(size_of(parts));
    tunnel_->flush();
}

// The plain side takes no more, but what it sent before, perhaps the reason why, is still to be read and
// passed on; then the tunnel fails. Its peer may be slow: it has as long as a drain.
void ByteForwarder::lose_plain(int code) {
    if (!done_ || plain_lost_) return;
    plain_lost_ = loss_of_plain(code);
    if (draining_) return finish(*plain_lost_);
    discard();
    if (up_closed_) pass_failure_up();
    if (!done_) return;
    io::when_drained(
        plain_.get_executor(), limits_.drain,
        [weak = weak_from_this()] {
            const auto self = weak.lock();
            return !self || !self->done_ || self->tunnel_->is_delivered();
        },
        [weak = weak_from_this()] {
            if (const auto self = weak.lock(); self && self->done_) {
                self->pass_failure_up();
                self->finish(*self->plain_lost_);
            }
        });
}

void ByteForwarder::pass_failure_up() {
    if (!done_) return;
    tunnel_->fail_after_all();  // nothing, if its end has been told
    tunnel_->flush();
    if (tunnel_->is_delivered()) finish(*plain_lost_);
}

void ByteForwarder::finish_if_over() {
    if (plain_lost_) return;  // when_drained() looks by itself
    if (up_closed_ && down_closed_ && tunnel_->end_is_told()) finish(Ending::orderly);
}

// The tunnel is over. The plain side gets what was received before, and only then its end (if that was in
// order) or a reset: one sent at once would destroy bytes on their way.
void ByteForwarder::drain_plain(Ending why) {
    if (!running()) return;
    if (plain_lost_) return finish(*plain_lost_);
    draining_ = true;
    tunnel_->abort();
    if (!awaits_plain_) empty_tunnel();
    if (!done_) return;
    io::when_drained(
        plain_.get_executor(), limits_.drain,
        [weak = weak_from_this(), why] {
            const auto self = weak.lock();
            return !self || self->is_drained(why);
        },
        [weak = weak_from_this(), why] {
            if (const auto self = weak.lock()) self->finish(why);
        });
}

bool ByteForwarder::is_drained(Ending why) {
    if (!done_) return true;
    if (!tunnel_->readable().empty()) return false;
    if (why == Ending::orderly) {
        error_code ignored;
        plain_.shutdown(io::Stream::shutdown_send, ignored);
    }
    return io::is_delivered(plain_);
}

void ByteForwarder::finish(Ending why) {
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

void ByteForwarder::sweep(Instant at) {
    if (!running() || plain_lost_) return;
    if (at - active_ >= limits_.idle) return drain_plain(Ending::idle);
    if (limits_.max_session && at >= *limits_.max_session) return drain_plain(Ending::max_session);
    if (at - active_ >= limits_.dead_peer && tunnel_->is_silent(limits_.dead_peer))
        drain_plain(Ending::dead_peer);
}

}  // namespace curvegate::forward
