#include "serve/connection.hpp"

#include "forward/byte_forwarder.hpp"
#include "forward/datagram_forwarder.hpp"
#include "forward/message_forwarder.hpp"
#include "io/clock.hpp"
#include "serve/sessions.hpp"

#include <algorithm>

namespace curvegate::serve {

Connection::Connection(Sessions& sessions, SpecPtr service, std::string source_text)
    : source(std::move(source_text)),
      spec_(std::move(service)),
      id_(++sessions.shared().counters->connections),
      sessions_(sessions) {}

void Connection::forward(io::Stream plain, std::unique_ptr<tunnel::ByteTunnel> tunnel) {
    run(std::make_shared<forward::ByteForwarder>(std::move(plain), std::move(tunnel), limits()));
}
void Connection::forward_records(io::Stream plain, std::unique_ptr<tunnel::MessagePipe> pipe) {
    run(std::make_shared<forward::MessageForwarder>(std::move(plain), std::move(pipe), limits(),
                                                    *sessions_.lent().scratch));
}
void Connection::forward_datagrams(os::UniqueFd plain, std::unique_ptr<tunnel::DatagramPipe> pipe) {
    run(std::make_shared<forward::DatagramForwarder>(*sessions_.lent().context, std::move(plain),
                                                     std::move(pipe), limits(),
                                                     *sessions_.shared().counters));
}

const ServiceSpec& Connection::shown() const {
    const SpecPtr now = sessions_.service_now(spec_->id);  // the worker holds it too
    return now ? *now : *spec_;
}

forward::ForwarderLimits Connection::limits() const {
    forward::ForwarderLimits out{spec_->limits.idle_timeout, spec_->limits.dead_peer, {}, spec_->drain};
    if (spec_->limits.max_session) out.max_session = io::now() + *spec_->limits.max_session;
    return out;
}

Duration Connection::shortest_limit() const {
    return std::min({spec_->limits.idle_timeout, spec_->limits.dead_peer,
                     spec_->limits.max_session.value_or(Duration::max())});
}

void Connection::log_handshake() const {
    log_of(shown(), who(),
           [](const auto&... where) { log::event(log::Level::info, "handshake_ok", {where...}); });
}

void Connection::cut(forward::Ending why) {
    const auto forwarder = forwarder_;  // it ends, and with it this
    if (forwarder) return forwarder->stop(why);
    cut_ = why;  // as soon as both sides are there
    if (why == forward::Ending::revoked) drop_tunnel();
}

void Connection::runs_over(tunnel::Tunnel& tunnel) {
    remains_ = sessions_.watch(tunnel, slot);
}

void Connection::drop_tunnel() {
    if (const auto remains = remains_.lock()) remains->drop();
}

void Connection::cut(forward::Ending why, std::string_view decided) {
    if (decided_.empty()) decided_ = decided;
    cut(why);
}

AuditRecord Connection::record(std::string_view reason) const {
    const auto& proven = key ? key : refused_key;
    const bool named = !proven || peer != proven->text();
    return {shown().name, named ? std::string_view(peer) : std::string_view(), proven, source, reason};
}

void Connection::sweep(Instant at) {
    const auto forwarder = forwarder_;  // it may end, and with it this
    if (forwarder) forwarder->sweep(at);
}

SessionReport Connection::report(Instant at) const {
    const forward::Traffic traffic = forwarder_ ? forwarder_->traffic() : forward::Traffic{};
    SessionReport out{id_, shown().name, peer, source, at - since_, traffic.bytes_down, traffic.bytes_up, {}};
    if (server_public != nullptr) out.server_key = {*server_key, *server_public};
    return out;
}

void Connection::run(const std::shared_ptr<forward::ForwarderBase>& forwarder) {
    forwarder_ = forwarder;
    sessions_.session_begins(*spec_);
    forwarder->start(
        [self = shared_from_this()](const forward::ForwarderSummary& summary) { self->ended(summary); });
    if (const auto why = sessions_.unwelcome(*this); !cut_ && why) {  // meanwhile
        cut_ = why->ending;
        decided_ = why->why;
    }
    if (cut_) forwarder->stop(*cut_);
}

void Connection::ended(const forward::ForwarderSummary& summary) {
    if (!decided_.empty()) sessions_.shared().audit->ended(record(decided_));
    sessions_.session_ended(shown(), who(), summary);
    forwarder_.reset();
    if (summary.ending == forward::Ending::revoked) drop_tunnel();  // it was told, and hears nothing more
    sessions_.remove(shared_from_this());
}

}  // namespace curvegate::serve
