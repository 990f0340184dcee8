#include "stream/stream.hpp"

#include "stream/acks.hpp"
#include "stream/receiver.hpp"
#include "stream/sender.hpp"

namespace curvegate::stream {

using wire::curvecp::Extension;
using wire::curvecp::Message;
using wire::curvecp::message_size;

namespace {

// What the reference sends (PROTOCOL 9.1).
constexpr std::size_t kForeignAck = 192;
// A stream that has been idle this long gives its buffers back.
constexpr Duration kRelease = std::chrono::seconds(1);
constexpr Duration kMostKeepalive = std::chrono::hours(24 * 365);

constexpr Duration kBulkSilence = std::chrono::milliseconds(500);

}  // namespace

struct Stream::Impl {
    Impl(const Options& given, Instant start)
        : keepalive(std::min(given.keepalive, kMostKeepalive)),
          sender(given),
          receiver(given),
          now(start),
          heard(start) {}

    Duration keepalive;
    Sender sender;
    Receiver receiver;
    Acks acks;
    Instant now;  // the latest that was passed in: it never goes back
    Instant heard;
    bool in_bulk = false;  // the last block that came was a full one
    Deadline silent_since;
    Deadline release_at;

    void look_at_clock(Instant passed) { now = std::max(now, passed); }

    [[nodiscard]] bool done() const {
        return sender.done() && receiver.incoming() != Incoming::open && receiver.all_consumed();
    }
    [[nodiscard]] bool drained() const { return sender.drained() && receiver.drained(); }
    [[nodiscard]] Deadline keepalive_at() const {
        if (done() || sender.waits()) return std::nullopt;
        // In the middle of much data a silence may mean that we have moved, and the peer does not know where
        // to.
        return heard + (in_bulk ? std::min(keepalive, kBulkSilence) : keepalive);
    }

    void owe(const Message& message, Receiver::Taken taken) {
        using Taken = Receiver::Taken;
        if (message.id.value == 0 || taken == Taken::ignored) return;
        // Pings are named one by one: a path check sends two with ids out of any order (PROTOCOL 7.7).
        if (message.block.empty() && message.end == wire::curvecp::StreamEnd::none)
            return acks.owe_ping(message.id);
        // The reference takes the name of a block that it knows to be done for a round trip since 1970.
        // An empty end lies in any range that reaches up to it.
        const bool empty_end = taken == Taken::ended && message.block.empty();
        const bool known_done = (taken == Taken::repeated || empty_end) && receiver.has_holes();
        const auto by_id = sender.peer_is_ours() || !known_done ? Acks::ById::named : Acks::ById::hidden;
        const bool wait = taken == Taken::in_order;
        acks.owe(message.id, by_id, wait ? Acks::Urgency::soon : Acks::Urgency::now, now);
    }

    Result<> receive(const Message& message) {
        if (auto good = sender.check(message); !good) return good;
        heard = now;
        sender.take(message, now);
        if (sender.peer_is_ours()) acks.peer_is_ours();
        const std::uint64_t before = receiver.received();
        if (!message.block.empty()) in_bulk = message.block.size() == wire::curvecp::kMaxBlock;
        owe(message, receiver.take(message));
        if (!sender.peer_is_ours()) sender.on_received(receiver.received() - before, now);
        silent_since = sender.waits() ? Deadline(now) : std::nullopt;
        release_at = now + kRelease;
        return {};
    }

    void add_acks(Message& message) {
        message.acked[0].end = receiver.prefix();
        // To a peer that wants each id named, ranges come with the last: they must not take in a block whose
        // id is still to be named.
        if (sender.peer_is_ours() || !acks.more_to_name()) receiver.select(message.acked);
        message.acked_id = acks.take();
    }

    std::size_t write(Message& message, MutableBytes out) {
        message.extension = Extension{.limit = receiver.tell_limit(), .capabilities = 0};
        serialise(message, out);
        release_at = now + kRelease;
        return out.size();
    }

    std::size_t write_ack(MutableBytes out) {
        Message message;
        add_acks(message);
        return write(message, out.first(sender.peer_is_ours() ? message_size(0) : kForeignAck));
    }

    std::size_t next_message(MutableBytes out) {
        if (out.size() < kForeignAck) return 0;
        if (const auto ping = keepalive_at(); ping && *ping <= now) {
            in_bulk = false;
            sender.want_ping();
        }
        if (!sender.peer_is_ours() && acks.due(now)) return write_ack(out);
        Message message;
        if (const auto size = sender.next(message, out, now); size != 0) {
            if (!silent_since) silent_since = now;
            if (sender.peer_is_ours()) {
                add_acks(message);
            } else {
                message.acked[0].end = receiver.prefix();
            }
            return write(message, out.first(size));
        }
        if (acks.due(now) || (sender.peer_is_ours() && receiver.limit_is_news())) return write_ack(out);
        if (release_at && *release_at <= now) release();
        return 0;
    }

    void release() {
        release_at.reset();
        if (!drained()) return;
        sender.release();
        receiver.release();
        acks.release();
    }

    [[nodiscard]] Deadline next_deadline() const {
        Deadline out = sender.deadline();
        const auto consider = [&](const Deadline& at) {
            if (at && (!out || *at < *out)) out = at;
        };
        consider(acks.deadline());
        consider(keepalive_at());
        if (drained()) consider(release_at);
        return out;
    }
};

Stream::Stream(const Options& options, Instant now) : impl_(std::make_unique<Impl>(options, now)) {
    static_assert(sizeof(Impl) < 1'000);  // all that an idle stream costs
}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

MutableBytes Stream::prepare() {
    return impl_->sender.prepare();
}
void Stream::commit(std::size_t size) {
    impl_->sender.commit(size);
}
void Stream::finish() {
    impl_->sender.finish();
}
void Stream::fail_after_all() {
    impl_->sender.fail_after_all();
}
void Stream::abort() {
    impl_->sender.abort();
}
std::uint64_t Stream::acknowledged() const {
    return impl_->sender.acknowledged();
}
bool Stream::owes_bytes() const {
    return !impl_->sender.aborted() && impl_->sender.acknowledged() < impl_->sender.written();
}
bool Stream::aborted() const {
    return impl_->sender.aborted();
}
bool Stream::outgoing_ended() const {
    return impl_->sender.ended();
}
Bytes Stream::readable() const {
    return impl_->receiver.readable();
}
void Stream::consume(std::size_t size) {
    impl_->receiver.consume(size);
}
void Stream::stop_reading() {
    impl_->receiver.stop_reading();
}
Incoming Stream::incoming() const {
    return impl_->receiver.incoming();
}
Result<> Stream::receive(const wire::curvecp::Message& message, Instant now) {
    impl_->look_at_clock(now);
    return impl_->receive(message);
}
std::size_t Stream::next_message(MutableBytes out, Instant now) {
    impl_->look_at_clock(now);
    return impl_->next_message(out);
}
Deadline Stream::next_deadline() const {
    return impl_->next_deadline();
}
void Stream::limit_blocks(std::size_t most) noexcept {
    impl_->sender.limit_blocks(most);
}
void Stream::want_ping() noexcept {
    impl_->sender.want_ping();
}
void Stream::path_changed(Instant now) {
    impl_->look_at_clock(now);
    impl_->sender.on_new_path(impl_->now);
}
bool Stream::outgoing_done() const {
    return impl_->sender.done();
}
bool Stream::done() const {
    return impl_->done();
}
Deadline Stream::silent_since() const {
    return impl_->silent_since;
}
bool Stream::peer_is_ours() const noexcept {
    return impl_->sender.peer_is_ours();
}
std::uint64_t Stream::received() const {
    return impl_->receiver.received();
}
std::uint64_t Stream::sent() const {
    return impl_->sender.written();
}
bool Stream::has_sent_bytes() const {
    return impl_->sender.has_sent_bytes();
}
Statistics Stream::statistics() const {
    auto out = impl_->sender.statistics();
    out.memory = impl_->sender.memory() + impl_->receiver.memory();
    return out;
}

}  // namespace curvegate::stream
