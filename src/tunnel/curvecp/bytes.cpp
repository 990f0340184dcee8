#include "tunnel/curvecp/bytes.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curvecp {

void StreamBytes::start() {
    tunnel_->on_event = [this, alive = alive_] {
        if (*alive) tell_event();
    };
    tunnel_->on_end = [this, alive = alive_](End why) {
        if (*alive) tell_end(why);
    };
    // What came with the handshake, or while the local side was dialled, makes no event any more.
    asio::post(tunnel_->context(), [this, alive = alive_] {
        if (!*alive || over_) return;
        const auto ended = tunnel_->ended();
        tell_event();
        if (*alive && ended) tell_end(*ended);
    });
}

std::span<iovec> StreamBytes::prepare() {
    if (over_) return {};
    const auto room = stream().prepare();
    if (room.empty()) return {};
    gap_ = {room.data(), room.size()};
    return {&gap_, 1};
}

void StreamBytes::flush() {
    if (!over_) tunnel_->flush();
}

void StreamBytes::abort() {
    silenced_ = true;
    stream().abort();
    flush();
}

std::span<iovec> StreamBytes::readable() {
    const auto bytes = stream().readable();
    if (bytes.empty()) return {};
    // writev() does not write through it. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
    come_ = {const_cast<Byte*>(bytes.data()), bytes.size()};
    return {&come_, 1};
}

ByteTunnel::Incoming StreamBytes::incoming() const {
    switch (stream().incoming()) {
        case stream::Incoming::open: return Incoming::open;
        case stream::Incoming::ended: return Incoming::ended;
        case stream::Incoming::failed: break;
    }
    return Incoming::failed;
}

bool StreamBytes::is_complete() const {
    return stream().outgoing_done() && stream().incoming() == stream::Incoming::ended;
}

void StreamBytes::tell_event() {
    if (on_event) on_event();
}

void StreamBytes::tell_end(End why) {
    over_ = true;
    if (silenced_) return;
    if (const auto tell = std::exchange(on_end, nullptr)) tell(why);
}

}  // namespace curvegate::tunnel::curvecp
