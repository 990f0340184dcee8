#include "tunnel/curvecp/messages.hpp"

#include "handshake/errors.hpp"
#include "session/errors.hpp"

namespace curvegate::tunnel::curvecp {

StreamMessages::StreamMessages(tunnel::TunnelHandle tunnel) : tunnel_(std::move(tunnel)) {
    tunnel_->on_event = [this] { on_event(); };
    tunnel_->on_end = [this](tunnel::End why) { on_tunnel_end(why); };
}

StreamMessages::~StreamMessages() {
    *alive_ = false;
    give_up();
}

// ---- out ----

Result<> StreamMessages::send(Bytes message) {
    if (!takes_more()) return fail(handshake::Errc::peer_closed);
    if (message.size() > most()) return fail(session::Errc::message_too_long);
    const auto length = wire::serialise_message_length(message.size());
    for (const Bytes part : {Bytes(length), message}) {
        const Bytes rest = part.subspan(backlog_.empty() ? write_some(part) : 0);
        backlog_.insert(backlog_.end(), rest.begin(), rest.end());
    }
    if (!held_) tunnel_->flush();
    return {};
}

void StreamMessages::flush() {
    held_ = false;
    if (takes_more()) tunnel_->flush();
}

std::size_t StreamMessages::write_some(Bytes bytes) {
    std::size_t written = 0;
    while (written < bytes.size()) {
        const auto room = stream().prepare();
        if (room.empty()) break;
        const auto part = bytes.subspan(written, std::min(room.size(), bytes.size() - written));
        std::ranges::copy(part, room.begin());
        stream().commit(part.size());
        written += part.size();
    }
    return written;
}

void StreamMessages::write_backlog() {
    const std::size_t written = write_some(backlog_);
    if (written == 0) return;
    if (written < backlog_.size()) {
        backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<std::ptrdiff_t>(written));
    } else {
        backlog_ = {};
    }
    tunnel_->flush();
    if (backlog_.empty() && on_drained) on_drained();
}

// ---- in ----

void StreamMessages::resume() {
    if (reading_ || over_) return;
    reading_ = true;
    read();
}

void StreamMessages::read() {
    const auto alive = alive_;
    bool taken = false;
    while (reading_) {
        const Bytes bytes = stream().readable();
        if (bytes.empty()) break;
        taken = true;
        const bool go_on = take(bytes);
        if (!*alive || over_) return;
        if (!go_on) reading_ = false;
    }
    if (taken && !tunnel_ended_) tunnel_->flush();
    if (!reading_ || !stream().readable().empty()) return;
    if (tunnel_ended_) return end(*tunnel_ended_);
    if (stream().incoming() != stream::Incoming::open) end(End::closed);
}

// One message, or a part of one. Returns false if nobody wants more now, or the pipe is over or gone.
bool StreamMessages::take(Bytes bytes) {
    using What = wire::MessageCutter::Cut::What;
    const auto cut = cutter_.next(bytes);
    const bool lies_in_stream = cut.what == What::in_place;
    if (!lies_in_stream) stream().consume(cut.size);
    if (cut.what == What::part) return true;
    if (cut.what == What::bad_length) {
        end(End::bad_length);
        return false;
    }
    const auto alive = alive_;
    const bool go_on = deliver(cut.message());
    if (!*alive || over_) return false;
    if (lies_in_stream) stream().consume(cut.size);
    return go_on;
}

bool StreamMessages::deliver(Bytes message) {
    const auto alive = alive_;
    delivering_ = true;
    const bool go_on = on_message(message);
    if (!*alive) return false;
    delivering_ = false;
    if (over_) give_up();
    return go_on && !over_;
}

// ---- the end ----

void StreamMessages::on_event() {
    if (over_) return;
    const auto alive = alive_;
    if (!backlog_.empty()) write_backlog();
    if (*alive && reading_) read();
}

void StreamMessages::on_tunnel_end(tunnel::End why) {
    if (over_) return;
    const auto alive = alive_;
    tunnel_ended_ = why;
    const bool waited = !backlog_.empty();
    backlog_ = {};
    if (waited && on_drained) on_drained();
    if (*alive && reading_) read();
}

void StreamMessages::end(End why) {
    if (std::exchange(over_, true)) return;
    reading_ = false;
    if (const auto tell = std::exchange(on_end, nullptr)) tell(why);
}

void StreamMessages::close() {
    over_ = true;
    reading_ = false;
    if (!delivering_) give_up();
}

// A message that was cut is no end in order.
void StreamMessages::give_up() {
    if (!tunnel_) return;
    if (backlog_.empty()) {
        stream().finish();
    } else {
        stream().abort();
    }
    tunnel_.reset();
}

}  // namespace curvegate::tunnel::curvecp
