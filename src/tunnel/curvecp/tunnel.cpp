#include "tunnel/curvecp/tunnel.hpp"

#include "io/clock.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curvecp {
namespace {

constexpr int kTrainsInARow = 8;  // then others get their turn

/// Where trains are put together: nothing stays in it between two calls.
MutableBytes scratch() {
    thread_local std::vector<Byte> bytes(io::DatagramSocket::kMaxTrain);
    return bytes;
}

}  // namespace

stream::Options stream_options(const IpEndpoint& peer, Duration dead_peer, stream::ChunkSource* chunks) {
    stream::Options out;
    out.chunks = chunks;
    out.keepalive = std::min(out.keepalive, dead_peer / 3);
    out.off_loopback = !peer.address.ip.is_loopback();
    return out;
}

CurvecpTunnel::CurvecpTunnel(asio::io_context& context, const stream::Options& options, Duration dead_peer)
    : context_(context), stream_(options, io::now()), patience_(dead_peer), timer_(context) {}

Deadline CurvecpTunnel::earliest(std::initializer_list<Deadline> all) {
    Deadline out;
    for (const Deadline& one : all) {
        if (one && (!out || *one < *out)) out = one;
    }
    return out;
}

void CurvecpTunnel::release() {
    on_event = nullptr;
    on_end = nullptr;
    if (over_) return;
    patience_.release(stream_.acknowledged(),
                      on_delivered ? stream::Audience::waits : stream::Audience::nobody, io::now());
    armed_.reset();  // the timer is set anew, and owns us from here on
    if (!stream_.outgoing_ended()) stream_.abort();
    stream_.stop_reading();
    pump();
    settle(io::now());
    arm_timer();
}

void CurvecpTunnel::cut(tunnel::End why) {
    end(why);
}

bool CurvecpTunnel::deliver(const Result<wire::curvecp::Message>& message, Instant at) {
    if (!message || stream_.receive(*message, at)) return true;
    end(tunnel::End::bad_message);
    return false;
}

void CurvecpTunnel::after_batch() {
    if (over_) return;
    const auto self = shared_from_this();
    if (on_event) on_event();
    if (over_) return;
    pump();
    settle(io::now());
    arm_timer();
}

void CurvecpTunnel::on_writable() {
    while (!tail_.empty() && !over_) {
        Train& train = tail_.front();
        const std::size_t taken = transmit(train.bytes, train.segment);
        if (taken < train.bytes.size()) {
            train.bytes.erase(train.bytes.begin(), train.bytes.begin() + static_cast<std::ptrdiff_t>(taken));
            return;
        }
        tail_.erase(tail_.begin());
    }
    after_batch();
}

// ---- sending ----

void CurvecpTunnel::pump() {
    if (over_ || pumping_) return;
    pumping_ = true;
    int trains = 0;
    while (tail_.empty() && !over_ && trains < kTrainsInARow && send_train(io::now())) ++trains;
    pumping_ = false;
    if (trains == kTrainsInARow && tail_.empty() && !over_) {
        asio::post(context_, [weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->after_batch();
        });
    }
    arm_timer();
}

// Puts messages of one size together and sends them. Returns false if there was none.
bool CurvecpTunnel::send_train(Instant at) {
    const MutableBytes buffer = scratch();
    std::size_t limit = std::min(buffer.size(), allowance());
    std::size_t used = 0;
    std::size_t segment = 0;
    std::size_t count = 0;
    while (count < io::DatagramSocket::kMaxSegments) {
        const auto form = envelope();
        held_back_ = used == 0 && (!form || form->overhead + form->most > limit);
        if (!form || used + form->overhead + form->most > limit) break;
        const auto room = buffer.subspan(used, form->overhead + form->most);
        const std::size_t size = stream_.next_message(room.subspan(form->overhead), at);
        if (size == 0) break;
        const auto packet = room.first(form->overhead + size);
        if (!seal(packet)) {
            end(tunnel::End::numbers_used_up);
            return false;
        }
        ++count;
        if (segment == 0) segment = packet.size();
        if (packet.size() > segment) {  // the next train begins with it
            send_or_keep(buffer.first(used), segment);
            std::ranges::copy(packet, buffer.begin());
            used = segment = packet.size();
            limit = std::min(buffer.size(), allowance());
            continue;
        }
        used += packet.size();
        if (packet.size() < segment) break;
    }
    if (used == 0) return false;
    send_or_keep(buffer.first(used), segment);
    return true;
}

void CurvecpTunnel::send_or_keep(Bytes train, std::size_t segment) {
    const std::size_t taken = tail_.empty() ? transmit(train, segment) : 0;
    if (taken == train.size()) return;
    const auto rest = train.subspan(taken);
    tail_.push_back({{rest.begin(), rest.end()}, segment});
}

// ---- time ----

Deadline CurvecpTunnel::dead_at() const {
    return patience_.dead_at(stream_.silent_since(), stream::peer_of(stream_));
}

Deadline CurvecpTunnel::next_deadline() const {
    const bool may_send = tail_.empty() && !held_back_;
    const Deadline sends = may_send ? stream_.next_deadline() : std::nullopt;
    const Deadline released =
        patience_.is_released() ? patience_.next_deadline(stream::standing_of(stream_)) : std::nullopt;
    return earliest({sends, dead_at(), own_deadline(), released});
}

// A timer that stands earlier than needed is left alone: it fires, finds nothing, and is set anew. So a
// packet that puts a deadline off costs no system call.
void CurvecpTunnel::arm_timer() {
    if (over_) return;
    const Deadline deadline = next_deadline();
    if (!deadline || (armed_ && *armed_ <= *deadline)) return;
    armed_ = deadline;
    timer_.expires_at(*deadline);
    timer_.async_wait([weak = weak_from_this(),
                       owner = patience_.is_released() ? shared_from_this() : nullptr](error_code error) {
        const auto self = weak.lock();
        if (!error && self && !self->over_) self->on_timer();
    });
}

void CurvecpTunnel::on_timer() {
    armed_.reset();
    const Instant at = io::now();
    if (const Deadline dead = dead_at(); dead && at >= *dead) return end(tunnel::End::dead_peer);
    if (const Deadline own = own_deadline(); own && at >= *own) on_own_deadline(at);
    if (over_) return;
    pump();
    settle(at);
    arm_timer();
}

// ---- the end ----

void CurvecpTunnel::settle(Instant at) {
    if (over_ || !patience_.is_released()) return;
    switch (patience_.judge(stream::standing_of(stream_), at)) {
        case stream::Verdict::go_on: return;
        case stream::Verdict::tell_delivered:
            if (const auto tell = std::exchange(on_delivered, nullptr)) tell();
            return;
        case stream::Verdict::forget: return end(tunnel::End::stopped);
        case stream::Verdict::give_up: return end(tunnel::End::dead_peer);
    }
}

void CurvecpTunnel::end(tunnel::End why) {
    if (over_) return;
    over_ = true;
    ended_ = why;
    timer_.cancel();
    tail_.clear();
    on_over();
    // Not from within a call of the user, whose handlers this may be.
    asio::post(context_, [self = shared_from_this(), why] { self->tell_end(why); });
}

void CurvecpTunnel::tell_end(tunnel::End why) {
    if (const auto tell = std::exchange(on_delivered, nullptr)) tell();
    if (const auto tell = std::exchange(on_end, nullptr)) tell(why);
}

}  // namespace curvegate::tunnel::curvecp
