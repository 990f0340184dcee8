#include "tunnel/curve_tun/bytes.hpp"

#include "io/socket_options.hpp"
#include "wire/curve_tun_frames.hpp"

#include <boost/asio/post.hpp>

#include <unistd.h>

namespace curvegate::tunnel::curve_tun {
namespace {

namespace wire = wire::curve_tun;
using session::curve_tun::kFrameOverhead;
using session::curve_tun::kMaxMessageSize;
constexpr std::size_t kHeader = wire::kFrameHeaderSize;
constexpr std::size_t kFrame = kFrameOverhead + kMaxMessageSize;
static_assert(kFrame <= Scratch::kOneMessage);

}  // namespace

TcpBytes::TcpBytes(io::Stream socket, session::curve_tun::Session session, const Options& options,
                   Scratch& scratch)
    : socket_(std::move(socket)), session_(std::move(session)), options_(options), scratch_(scratch) {}

TcpBytes::~TcpBytes() {
    *alive_ = false;
}

void TcpBytes::start() {
    wait_readable();
}

// ---- out ----

std::span<iovec> TcpBytes::prepare() {
    if (opening_) room_was_asked_ = true;
    if (opening_ || over_ || up_ != Up::open || !sealed_.empty()) return {};
    auto& gaps = scratch_.gaps();
    for (std::size_t i = 0; i < burst_; ++i) {
        gaps[i] = {scratch_.bytes().data() + i * kFrame + kFrameOverhead, kMaxMessageSize};
    }
    return std::span(gaps).first(burst_);
}

void TcpBytes::commit(std::size_t size) {
    if (size == 0) return;
    const bool filled = size == burst_ * kMaxMessageSize;
    std::size_t written = 0;
    for (std::size_t left = size; left > 0;) {
        const std::size_t payload = std::min(left, kMaxMessageSize);
        const auto frame = scratch_.bytes().subspan(written, kFrameOverhead + payload);
        if (!session_.seal_frame(frame)) break;  // used up: what was sealed before still goes out
        written += frame.size();
        left -= payload;
    }
    send(scratch_.bytes().first(written));
    if (up_ == Up::lost) return;
    if (!sealed_.empty()) {
        burst_ = 1;
    } else if (session_.exhausted()) {
        end_later(End::numbers_used_up);
    } else if (filled) {
        burst_ = static_cast<std::uint8_t>(std::min(std::size_t{burst_} * 2, Scratch::kMostMessages));
    }
}

void TcpBytes::finish() {
    if (over_ || up_ != Up::open) return;
    up_ = Up::ending;
    if (options_.end_of_stream == EndOfStream::message) {
        const auto frame = scratch_.bytes().first(kFrameOverhead);
        if (!session_.seal_frame(frame)) return end_later(End::numbers_used_up);
        send(frame);
    }
    settle_up();
}

void TcpBytes::fail_after_all() {
    if (over_ || up_ != Up::open) return;
    up_ = Up::failing;
    settle_up();
}

void TcpBytes::send(Bytes frames) {
    if (!sealed_.empty()) return (void)sealed_.insert(sealed_.end(), frames.begin(), frames.end());
    const auto sent = io::send_some(socket_, frames);
    if (!sent) return lose_up();
    if (*sent == frames.size()) return;
    sealed_.assign(frames.begin() + static_cast<std::ptrdiff_t>(*sent), frames.end());
    sent_ = 0;
    wait_writable();
}

void TcpBytes::wait_writable() {
    socket_.async_wait(io::Stream::wait_write, [this, alive = alive_](error_code error) {
        if (!error && *alive && !over_) send_kept();
    });
}

void TcpBytes::send_kept() {
    const auto sent = io::send_some(socket_, Bytes(sealed_).subspan(sent_));
    if (!sent) {
        lose_up();
        return tell_event();
    }
    sent_ += *sent;
    if (sent_ < sealed_.size()) return wait_writable();
    sealed_ = {};
    if (up_ == Up::open && session_.exhausted()) return end(End::numbers_used_up);
    settle_up();
    tell_event();
}

// Tells the end that is due, once nothing is kept. In EndOfStream::close a FIN is an orderly end, so a
// failure is a reset there; else a FIN without a message before it is the failure.
void TcpBytes::settle_up() {
    if ((up_ != Up::ending && up_ != Up::failing) || !sealed_.empty()) return;
    const bool closes = options_.end_of_stream == EndOfStream::close;
    if (closes == (up_ == Up::ending)) {
        error_code ignored;
        socket_.shutdown(io::Stream::shutdown_send, ignored);
    } else if (closes) {
        io::reset_when_closed(socket_.native_handle());
    }
    up_ = Up::closed;
}

// A reset may have overtaken nothing: what came before it is still in the socket, and is read first.
void TcpBytes::lose_up() {
    sealed_ = {};
    up_ = Up::lost;
    if (ended_) end_later(End::cut);
}

bool TcpBytes::is_delivered() {
    if (over_ || up_ == Up::lost) return true;
    return up_ == Up::closed && io::is_delivered(socket_);
}

// ---- in ----

void TcpBytes::wait_readable() {
    if (std::exchange(waits_readable_, true)) return;
    socket_.async_wait(io::Stream::wait_read, [this, alive = alive_](error_code error) {
        if (!*alive) return;
        waits_readable_ = false;
        if (!error && !over_) on_readable();
    });
}

void TcpBytes::on_readable() {
    const auto buffer = scratch_.bytes();
    std::ranges::copy(partial_, buffer.begin());
    const std::size_t had = partial_.size();
    const ssize_t size = ::read(socket_.native_handle(), buffer.data() + had, buffer.size() - had);
    if (io::would_block(size)) return wait_readable();
    if (size < 0) return end(End::cut);
    if (size == 0) return on_fin();
    open_frames(buffer.first(had + static_cast<std::size_t>(size)));
}

// Opens every whole frame, and offers their payloads together; keeps the rest.
void TcpBytes::open_frames(MutableBytes bytes) {
    const auto alive = alive_;
    std::optional<End> fault;
    std::size_t count = 0;
    opening_ = true;
    while (!fault) {
        const auto frame = wire::next_frame(bytes, wire::kMessagesOnly);
        if (frame.what == wire::FrameStart::What::part) break;
        if (frame.what == wire::FrameStart::What::bad_length) {
            fault = End::bad_length;
            break;
        }
        fault = open_frame(bytes.first(frame.frame_size).subspan(kHeader), count);
        bytes = bytes.subspan(frame.frame_size);
        if (count < Scratch::kMostParts) continue;
        offer(std::exchange(count, 0));
        if (!*alive || over_) return;
    }
    partial_.assign(bytes.begin(), bytes.end());
    if (bytes.empty()) partial_.shrink_to_fit();
    if (count > 0 || ended_) offer(count);
    if (!*alive || over_) return;
    opening_ = false;
    if (!fault && ended_ && up_ == Up::lost) fault = End::cut;
    if (fault) return end(*fault);
    if (std::exchange(room_was_asked_, false)) tell_event();
    if (*alive && !over_ && opened_.empty()) wait_readable();
}

std::optional<End> TcpBytes::open_frame(MutableBytes packet, std::size_t& count) {
    const auto payload = session_.open_packet(packet);
    if (!payload) return End::bad_message;
    if (ended_) return End::after_end;  // PROTOCOL 5.4
    if (payload->empty() && options_.end_of_stream == EndOfStream::message) {
        ended_ = true;
        return std::nullopt;
    }
    heard_ = heard_ || !payload->empty();
    scratch_.payloads()[count++] = {payload->data(), payload->size()};
    if (session_.exhausted()) return End::numbers_used_up;
    return std::nullopt;
}

// To the user, who may take some now. What he does not take is kept, behind what is kept already.
void TcpBytes::offer(std::size_t count) {
    const auto parts = std::span(scratch_.payloads()).first(count);
    if (!opened_.empty()) return keep(parts);
    const auto alive = alive_;
    readable_ = parts;
    tell_event();
    if (!*alive || over_) return;
    keep(std::exchange(readable_, {}));
}

void TcpBytes::keep(std::span<iovec> parts) {
    const std::size_t taken = opened_.size() - kept_.iov_len;
    for (const iovec& part : parts) {
        const auto* const begin = static_cast<const Byte*>(part.iov_base);
        opened_.insert(opened_.end(), begin, begin + part.iov_len);
    }
    if (opened_.empty()) return;
    kept_ = {opened_.data() + taken, opened_.size() - taken};
    readable_ = {&kept_, 1};
}

void TcpBytes::consume(std::size_t size) {
    while (size > 0 || (!readable_.empty() && readable_.front().iov_len == 0)) {
        iovec& first = readable_.front();
        const std::size_t taken = std::min(size, first.iov_len);
        first = {static_cast<Byte*>(first.iov_base) + taken, first.iov_len - taken};
        size -= taken;
        if (first.iov_len == 0) readable_ = readable_.subspan(1);
    }
    if (opened_.empty() || !readable_.empty()) return;
    opened_ = {};
    kept_ = {};
    if (!opening_ && !over_) wait_readable();
}

ByteTunnel::Incoming TcpBytes::incoming() const {
    return ended_ ? Incoming::ended : Incoming::open;
}

// In EndOfStream::close, and between two frames, a foreign peer's FIN ends both directions.
void TcpBytes::on_fin() {
    if (ended_ || options_.end_of_stream == EndOfStream::message || !partial_.empty()) return end(End::cut);
    const bool unheard = !heard_ && up_ == Up::open && options_.unheard_end == UnheardEnd::refusal;
    end(unheard ? End::unheard : End::closed);
}

bool TcpBytes::is_silent(Duration dead_peer) {
    return !over_ && io::is_silent(socket_, dead_peer);
}

// ---- the end ----

void TcpBytes::tell_event() {
    if (!over_ && on_event) on_event();
}

void TcpBytes::abort() {
    over_ = true;
    sealed_ = {};
    partial_ = {};
    if (opened_.empty()) keep(std::exchange(readable_, {}));  // the scratch memory is not ours for long
    error_code ignored;
    socket_.close(ignored);
}

void TcpBytes::end(End why) {
    if (over_) return;
    const auto tell = std::exchange(on_end, nullptr);
    abort();
    if (tell) tell(why);
}

void TcpBytes::end_later(End why) {
    asio::post(socket_.get_executor(), [this, alive = alive_, why] {
        if (*alive) end(why);
    });
}

}  // namespace curvegate::tunnel::curve_tun
