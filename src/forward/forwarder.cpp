#include "forward/forwarder.hpp"

#include "io/clock.hpp"
#include "io/socket_options.hpp"
#include "wire/curve_tun_frames.hpp"

namespace curvegate::forward {
namespace {

using session::curve_tun::kFrameOverhead;
using session::curve_tun::kMaxMessageSize;
constexpr std::size_t kHeader = wire::curve_tun::kFrameHeaderSize;

}  // namespace

Forwarder::Forwarder(io::Stream plain, io::Stream tunnel, session::curve_tun::Session session,
                     const ForwarderLimits& limits, Scratch& scratch)
    : plain_(std::move(plain)),
      tunnel_(std::move(tunnel)),
      session_(std::move(session)),
      limits_(limits),
      scratch_(scratch),
      started_(io::now()),
      active_(started_) {}

void Forwarder::start(DoneFn done) {
    done_ = std::move(done);
    wait_plain();
    wait_tunnel();
}

void Forwarder::stop(Ending why) {
    finish(why, true);
}

// ---- plain -> tunnel ----

void Forwarder::wait_plain() {
    plain_.async_wait(io::Stream::wait_read, [self = shared_from_this()](error_code error) {
        if (!error && self->done_ && !self->draining_) self->on_plain_readable();
    });
}

void Forwarder::on_plain_readable() {
    const std::size_t burst = burst_;
    std::array<iovec, Scratch::kMaxBurst> parts;
    for (std::size_t i = 0; i < burst; ++i) {
        parts[i] = {scratch_.bytes().data() + i * Scratch::kFrame + kFrameOverhead, kMaxMessageSize};
    }
    const ssize_t size = ::readv(plain_.native_handle(), parts.data(), static_cast<int>(burst));
    if (io::would_block(size)) return wait_plain();
    active_ = io::now();
    if (size > 0) return seal_and_send(static_cast<std::size_t>(size), burst);
    up_state_ = Direction::ending;
    if (size < 0) lose_plain(errno);
    // A plain side that was lost has no end that could be told, whatever the kernel reads to us now.
    if (!plain_lost_) return send_end_of_stream();
    if (done_ && !draining_ && up_.empty()) flush_up();
}

void Forwarder::seal_and_send(std::size_t size, std::size_t burst) {
    summary_.bytes_up += size;
    const bool filled = size == burst * kMaxMessageSize;
    std::size_t written = 0;
    for (std::size_t left = size; left > 0;) {
        const std::size_t payload = std::min(left, kMaxMessageSize);
        const auto frame = scratch_.bytes().subspan(written, kFrameOverhead + payload);
        if (!session_.seal_frame(frame)) break;  // used up: what was sealed before still goes out
        written += frame.size();
        left -= payload;
    }
    to_tunnel(scratch_.bytes().first(written));
    if (!done_ || draining_ || up_lost_) return;
    if (!up_.empty()) {
        burst_ = 1;
        return;  // back-pressure: flush_up() goes on
    }
    if (session_.exhausted()) return drain_plain(Ending::numbers_used_up);
    if (filled) burst_ = static_cast<std::uint8_t>(std::min<std::size_t>(burst * 2, Scratch::kMaxBurst));
    wait_plain();
}

void Forwarder::send_end_of_stream() {
    if (limits_.end_of_stream == EndOfStream::message) {
        const auto frame = scratch_.bytes().first(kFrameOverhead);
        if (!session_.seal_frame(frame)) return drain_plain(Ending::numbers_used_up);
        to_tunnel(frame);
    }
    if (done_ && !draining_ && !up_lost_ && up_.empty()) flush_up();
}

void Forwarder::to_tunnel(Bytes frames) {
    const auto sent = io::send_some(tunnel_, frames);
    if (!sent) return on_tunnel_broken();
    if (*sent == frames.size()) return;
    up_.bytes.assign(frames.begin() + static_cast<std::ptrdiff_t>(*sent), frames.end());
    up_.sent = 0;
    tunnel_.async_wait(io::Stream::wait_write, [self = shared_from_this()](error_code error) {
        if (!error && self->done_ && !self->draining_) self->flush_up();
    });
}

void Forwarder::flush_up() {
    if (!up_.empty()) {
        const auto sent = io::send_some(tunnel_, up_.rest());
        if (!sent) return on_tunnel_broken();
        active_ = io::now();
        up_.sent += *sent;
        if (!up_.empty()) {
            tunnel_.async_wait(io::Stream::wait_write, [self = shared_from_this()](error_code error) {
                if (!error && self->done_ && !self->draining_) self->flush_up();
            });
            return;
        }
        up_.clear();
    }
    if (up_state_ == Direction::open && session_.exhausted()) return drain_plain(Ending::numbers_used_up);
    if (up_state_ == Direction::open) return wait_plain();
    up_state_ = Direction::closed;
    // In EndOfStream::close a FIN is an orderly end, and a plain side that was lost has none.
    if ((limits_.end_of_stream == EndOfStream::close) != plain_lost_.has_value()) {
        error_code ignored;
        tunnel_.shutdown(io::Stream::shutdown_send, ignored);
    }
    finish_if_over();
}

// A reset may have overtaken nothing: what came before it is still in the socket, and is delivered first.
void Forwarder::on_tunnel_broken() {
    if (down_state_ != Direction::open) return drain_plain(Ending::tunnel_cut);
    up_lost_ = true;
    up_.clear();
    up_state_ = Direction::closed;
}

// ---- tunnel -> plain ----

void Forwarder::wait_tunnel() {
    tunnel_.async_wait(io::Stream::wait_read, [self = shared_from_this()](error_code error) {
        if (!error && self->done_ && !self->draining_) self->on_tunnel_readable();
    });
}

void Forwarder::on_tunnel_readable() {
    const auto buffer = scratch_.bytes();
    std::ranges::copy(partial_, buffer.begin());
    const std::size_t had = partial_.size();
    const ssize_t size = ::read(tunnel_.native_handle(), buffer.data() + had, buffer.size() - had);
    if (io::would_block(size)) return wait_tunnel();
    active_ = io::now();
    if (size < 0) return drain_plain(Ending::tunnel_cut);
    if (size == 0) return on_tunnel_end();
    if (!open_frames(buffer.first(had + static_cast<std::size_t>(size)))) return;
    if (down_state_ == Direction::ending && down_.empty()) pass_end_down();
    if (!done_ || draining_) return;
    if (down_.empty()) return wait_tunnel();
    plain_.async_wait(io::Stream::wait_write, [self = shared_from_this()](error_code error) {
        if (!error && self->done_) self->flush_down();
    });
}

// Opens every whole frame and delivers their payloads together; keeps the rest. Returns false if the
// connection is over.
bool Forwarder::open_frames(MutableBytes bytes) {
    Payloads payloads;
    std::optional<Ending> fault;
    while (!fault) {
        const auto frame = wire::curve_tun::next_frame(bytes, wire::curve_tun::kMessagesOnly);
        if (frame.what == wire::curve_tun::FrameStart::What::part) break;
        if (frame.what == wire::curve_tun::FrameStart::What::bad_length) {
            fault = Ending::bad_length;
            break;
        }
        if (payloads.count == payloads.parts.size() && !deliver(payloads)) return false;
        fault = open_packet(bytes.first(frame.frame_size).subspan(kHeader), payloads);
        if (!fault) bytes = bytes.subspan(frame.frame_size);
    }
    if (!deliver(payloads)) return false;
    if (fault) {
        drain_plain(*fault);
        return false;
    }
    partial_.assign(bytes.begin(), bytes.end());
    if (bytes.empty()) partial_.shrink_to_fit();
    return true;
}

std::optional<Ending> Forwarder::open_packet(MutableBytes packet, Payloads& payloads) {
    const auto payload = session_.open_packet(packet);
    if (!payload) return Ending::bad_message;
    if (down_state_ != Direction::open) return Ending::after_end;  // PROTOCOL 5.4
    if (payload->empty() && limits_.end_of_stream == EndOfStream::message) {
        down_state_ = Direction::ending;
    } else {
        payloads.add(*payload);
    }
    if (session_.exhausted() && down_state_ == Direction::open) return Ending::numbers_used_up;
    return std::nullopt;
}

// Returns false if the connection is over.
bool Forwarder::deliver(Payloads& payloads) {
    const std::span<iovec> parts(payloads.parts.data(), std::exchange(payloads.count, 0));
    if (parts.empty() || plain_lost_) return true;
    std::size_t sent = 0;
    if (down_.empty()) {
        const auto taken = io::send_some(plain_, parts);
        if (!taken) {
            lose_plain(errno);
            return static_cast<bool>(done_);
        }
        sent = *taken;
        down_.clear();
    }
    for (const iovec& part : parts) {
        summary_.bytes_down += part.iov_len;
        const std::size_t skip = std::min(sent, part.iov_len);
        sent -= skip;
        const auto* begin = static_cast<const Byte*>(part.iov_base);
        down_.bytes.insert(down_.bytes.end(), begin + skip, begin + part.iov_len);
    }
    return true;
}

// In EndOfStream::close, and between two frames: the foreign peer's FIN ends both directions.
Ending Forwarder::meaning_of_fin() const {
    const bool unheard = summary_.bytes_down == 0 && up_state_ == Direction::open;
    const bool refused = unheard && limits_.unheard_end == UnheardEnd::refusal;
    return refused ? Ending::unheard_end : Ending::orderly;
}

void Forwarder::on_tunnel_end() {
    if (plain_lost_) return finish(*plain_lost_, true);
    if (down_state_ == Direction::closed) {
        // The peer has told its end before and goes away: what we still have to send has no reader.
        if (up_state_ == Direction::closed) return finish(Ending::orderly, false);
        return drain_plain(Ending::tunnel_cut);
    }
    if (limits_.end_of_stream == EndOfStream::message || !partial_.empty())
        return drain_plain(Ending::tunnel_cut);
    drain_plain(meaning_of_fin());
}

void Forwarder::flush_down() {
    if (const auto sent = io::send_some(plain_, down_.rest())) {
        active_ = io::now();
        down_.sent += *sent;
    } else {
        lose_plain(errno);
    }
    if (!down_.empty()) {
        plain_.async_wait(io::Stream::wait_write, [self = shared_from_this()](error_code error) {
            if (!error && self->done_) self->flush_down();
        });
        return;
    }
    down_.clear();
    if (!done_ || draining_) return;  // when_drained() looks by itself
    if (down_state_ == Direction::ending) pass_end_down();
    if (done_ && !draining_) wait_tunnel();
}

void Forwarder::pass_end_down() {
    down_state_ = Direction::closed;
    error_code ignored;
    plain_.shutdown(io::Stream::shutdown_send, ignored);
    finish_if_over();
}

// ---- the end ----

// The plain side takes no more, but what it sent before, perhaps the reason why, is still to be read and
// passed on; then the tunnel ends without an end of stream, in EndOfStream::close by a reset. Its peer may be
// slow: it has as long as a drain.
void Forwarder::lose_plain(int code) {
    if (!done_ || plain_lost_) return;
    plain_lost_ = loss_of_plain(code);
    down_.clear();
    if (draining_ || up_lost_) return finish(*plain_lost_, true);
    const auto self = shared_from_this();
    io::when_drained(
        tunnel_.get_executor(), limits_.drain, [self] { return self->has_left(); },
        [self] { self->finish(*self->plain_lost_, true); });
}

bool Forwarder::has_left() {
    if (!done_) return true;
    return up_state_ == Direction::closed && (up_lost_ || io::is_delivered(tunnel_));
}

void Forwarder::finish_if_over() {
    if (plain_lost_) return;  // when_drained() looks by itself
    if (up_lost_) return drain_plain(Ending::tunnel_cut);
    if (up_state_ == Direction::closed && down_state_ == Direction::closed) finish(Ending::orderly, false);
}

// The tunnel is over. The plain side gets what was opened before, and only then its end (if that was orderly)
// or a reset: one sent at once would destroy bytes on their way.
void Forwarder::drain_plain(Ending why) {
    if (!done_ || draining_) return;
    if (plain_lost_) return finish(*plain_lost_, true);
    error_code ignored;
    tunnel_.close(ignored);
    up_.clear();
    partial_ = {};
    draining_ = true;
    if (!down_.empty()) flush_down();
    if (!done_) return;
    const auto self = shared_from_this();
    io::when_drained(
        plain_.get_executor(), limits_.drain, [self, why] { return self->is_drained(why); },
        [self, why] { self->finish(why, why != Ending::orderly); });
}

bool Forwarder::is_drained(Ending why) {
    if (!done_) return true;
    if (!down_.empty()) return false;
    if (why == Ending::orderly) {
        error_code ignored;
        plain_.shutdown(io::Stream::shutdown_send, ignored);
    }
    return io::is_delivered(plain_);
}

void Forwarder::finish(Ending why, bool reset) {
    if (!done_) return;
    error_code ignored;
    if (!reset) io::allow_orderly_close(plain_.native_handle());
    if (plain_lost_ && limits_.end_of_stream == EndOfStream::close)
        io::reset_when_closed(tunnel_.native_handle());
    plain_.close(ignored);
    tunnel_.close(ignored);
    summary_.ending = why;
    summary_.lasted = io::now() - started_;
    auto done = std::exchange(done_, nullptr);
    done(summary_);
}

void Forwarder::sweep(Instant at) {
    if (!done_ || draining_) return;
    if (at - active_ >= limits_.idle) return drain_plain(Ending::idle);
    if (limits_.max_session && at >= *limits_.max_session) return drain_plain(Ending::max_session);
    if (at - active_ >= limits_.dead_peer && io::is_silent(tunnel_, limits_.dead_peer))
        drain_plain(Ending::dead_peer);
}

}  // namespace curvegate::forward
