#include "tunnel/curve_tun/messages.hpp"

#include "handshake/errors.hpp"
#include "io/socket_options.hpp"
#include "io/stream_io.hpp"
#include "wire/curve_tun_frames.hpp"

#include <boost/asio/post.hpp>

#include <sys/socket.h>

namespace curvegate::tunnel::curve_tun {
namespace {

using session::curve_tun::kFrameOverhead;
using session::curve_tun::kMaxMessageSize;
constexpr std::size_t kHeader = wire::curve_tun::kFrameHeaderSize;
constexpr std::size_t kRoom = kFrameOverhead + kMaxMessageSize;

}  // namespace

TcpMessages::TcpMessages(io::Stream stream, session::curve_tun::Session session, Duration dead_peer)
    : stream_(std::move(stream)), session_(std::move(session)) {
    io::set_tunnel_options(stream_.native_handle(), dead_peer);
}

TcpMessages::~TcpMessages() {
    *alive_ = false;
}

// ---- out ----

Result<> TcpMessages::send(Bytes message) {
    if (!takes_more()) return fail(handshake::Errc::peer_closed);
    if (message.size() > most()) return fail(session::Errc::message_too_long);
    const std::size_t before = outgoing_.size();
    outgoing_.resize(before + kFrameOverhead + message.size());
    const auto frame = MutableBytes(outgoing_).subspan(before);
    std::ranges::copy(message, frame.subspan(kFrameOverhead).begin());
    if (auto sealed = session_.seal_frame(frame); !sealed) {
        outgoing_.resize(before);
        end_later(End::numbers_used_up);
        return sealed;
    }
    if (!held_ && !waits_writable_) write();
    if (broken_) return fail(handshake::Errc::peer_closed);
    return {};
}

void TcpMessages::flush() {
    held_ = false;
    if (!outgoing_.empty() && !waits_writable_ && takes_more()) write();
}

void TcpMessages::write() {
    const auto sent = io::send_some(stream_, outgoing_);
    if (!sent) {
        broken_ = true;
        outgoing_ = {};
        return;
    }
    if (*sent < outgoing_.size()) {
        outgoing_.erase(outgoing_.begin(), outgoing_.begin() + static_cast<std::ptrdiff_t>(*sent));
        return wait_writable();
    }
    outgoing_ = {};
    if (session_.exhausted()) end_later(End::numbers_used_up);
}

void TcpMessages::wait_writable() {
    waits_writable_ = true;
    stream_.async_wait(io::Stream::wait_write, [this, alive = alive_](error_code error) {
        if (!*alive) return;
        waits_writable_ = false;
        if (error || over_) return;
        write();
        if (outgoing_.empty() && on_drained) on_drained();
    });
}

bool TcpMessages::is_silent(Duration dead_peer) {
    return !over_ && io::is_silent(stream_, dead_peer);
}

bool TcpMessages::is_delivered() {
    return over_ || (outgoing_.empty() && io::is_delivered(stream_));
}

// ---- in ----

void TcpMessages::resume() {
    if (reading_ || over_) return;
    reading_ = true;
    if (deliver()) wait_readable();
}

void TcpMessages::wait_readable() {
    if (std::exchange(waits_readable_, true)) return;
    stream_.async_wait(io::Stream::wait_read, [this, alive = alive_](error_code error) {
        if (!*alive) return;
        waits_readable_ = false;
        if (!error && reading_) on_readable();
    });
}

void TcpMessages::on_readable() {
    if (!incoming_) incoming_ = std::make_unique_for_overwrite<Byte[]>(kRoom);
    const ssize_t size = ::recv(stream_.native_handle(), incoming_.get() + end_, kRoom - end_, MSG_DONTWAIT);
    if (io::would_block(size)) {
        tidy();
        return wait_readable();
    }
    if (size <= 0) return end(End::closed);
    end_ += static_cast<std::size_t>(size);
    if (deliver()) wait_readable();
}

// Every whole frame that lies there. Returns false if nobody wants more now, or the pipe is over or gone.
bool TcpMessages::deliver() {
    const auto alive = alive_;
    while (true) {
        const MutableBytes bytes(incoming_.get() + begin_, end_ - begin_);
        const auto frame = wire::curve_tun::next_frame(bytes, wire::curve_tun::kMessagesOnly);
        if (frame.what == wire::curve_tun::FrameStart::What::part) break;
        if (frame.what == wire::curve_tun::FrameStart::What::bad_length) {
            end(End::bad_length);
            return false;
        }
        const auto payload = session_.open_packet(bytes.first(frame.frame_size).subspan(kHeader));
        if (!payload) {
            end(End::bad_message);
            return false;
        }
        begin_ += frame.frame_size;
        const bool go_on = on_message(*payload);
        if (!*alive || over_) return false;
        if (session_.exhausted()) {
            end(End::numbers_used_up);
            return false;
        }
        if (!go_on) {
            reading_ = false;
            break;
        }
    }
    tidy();
    return reading_;
}

void TcpMessages::tidy() {
    if (begin_ == end_) {
        incoming_.reset();
    } else if (begin_ > 0) {
        std::copy(incoming_.get() + begin_, incoming_.get() + end_, incoming_.get());
    }
    end_ -= begin_;
    begin_ = 0;
}

// ---- the end ----

void TcpMessages::end(End why) {
    if (std::exchange(over_, true)) return;
    reading_ = false;
    if (const auto tell = std::exchange(on_end, nullptr)) tell(why);
}

void TcpMessages::end_later(End why) {
    asio::post(stream_.get_executor(), [this, alive = alive_, why] {
        if (*alive) end(why);
    });
}

void TcpMessages::close() {
    over_ = true;
    reading_ = false;
    error_code ignored;
    stream_.close(ignored);
}

}  // namespace curvegate::tunnel::curve_tun
