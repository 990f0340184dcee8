#include "tunnel/curvecp/client_tunnel.hpp"

#include "io/asio.hpp"
#include "io/clock.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curvecp {
namespace {

namespace machine = handshake::curvecp;
namespace wire = wire::curvecp;
namespace action = machine::action;
namespace event = machine::event;
using machine::Event;

constexpr int kBatches = 4;

// Why a tunnel ends that its user had already, before the server was heard.
tunnel::End meaning_of(const Error& why) {
    if (why.is(handshake::Errc::stopped)) return tunnel::End::stopped;
    return handshake::is_ours(why) ? tunnel::End::cannot_ask : tunnel::End::no_answer;
}

}  // namespace

ClientTunnel::ClientTunnel(asio::io_context& context, std::unique_ptr<io::DatagramSocket> socket,
                           const tunnel::HandshakeTools& tools, const Options& options, DoneFn done)
    : CurvecpTunnel(context, stream_options(options.server, options.dead_peer, tools.chunks),
                    options.dead_peer),
      server_(options.server),
      socket_(std::move(socket)),
      introducing_(std::make_unique<Introducing>(*this, tools, options, std::move(done))) {
    stream_.limit_blocks(wire::kFirstBlock);
    stream_.want_ping();  // so that a server whose application speaks first hears of us
}

void ClientTunnel::start() {
    // Not from within: done() may come of this.
    asio::post(context_,
               [self = std::static_pointer_cast<ClientTunnel>(shared_from_this())] { self->begin(); });
}

void ClientTunnel::begin() {
    if (!introducing_->done) return;
    introducing_->runner.begin();
    if (!is_over()) wait_socket();
}

void ClientTunnel::stop() {
    if (!introducing_) return cut(tunnel::End::no_answer);
    feed(event::Stop{});
}

bool ClientTunnel::has_cookie() const noexcept {
    return session_.has_value() ||
           (introducing_ && introducing_->runner.state() == machine::ClientState::vouching);
}

// ---- the machine ----

void ClientTunnel::feed(Event&& event) {
    const auto self = shared_from_this();  // done() may let go of us
    if (introducing_ && !is_over()) introducing_->runner.feed(std::move(event));
}

Event ClientTunnel::start(crypto::EphemeralKeyPair keys) const {
    return event::Start{std::move(keys), session::curvecp::first_number(*introducing_->tools.random)};
}

ClientTunnel::Hold ClientTunnel::hold() {
    return {std::static_pointer_cast<ClientTunnel>(shared_from_this())};
}

void ClientTunnel::on(const action::Send& send) {
    (void)socket_->send({server_, {}}, send.packet(), send.size);
}

void ClientTunnel::on(action::Vouched& vouched) {
    session_.emplace(std::move(vouched.session));
    introducing_->introduction = vouched.introduction;
    introducing_->initiates.begin(io::now());
    finish({});
    pump();
}

std::optional<Event> ClientTunnel::on(const action::AskAfresh&) {
    const auto told = stream_.has_sent_bytes() ? machine::Told::something : machine::Told::nothing;
    if (!introducing_->initiates.starts_afresh(told)) return std::nullopt;
    session_.reset();
    introducing_->introduction.reset();
    stream_.want_ping();
    return introducing_->runner.fresh_start();
}

void ClientTunnel::on(const action::Close& close) {
    finish(std::unexpected(close.why));
    cut(meaning_of(close.why));
}

void ClientTunnel::finish(Result<> result) {
    if (!introducing_) return;
    if (auto done = std::exchange(introducing_->done, nullptr)) done(std::move(result));
}

// ---- packets ----

void ClientTunnel::wait_socket() {
    auto self = std::static_pointer_cast<ClientTunnel>(shared_from_this());
    socket_->wait_readable([weak = std::weak_ptr(self)] {
        const auto alive = weak.lock();
        if (!alive || alive->is_over()) return;
        for (int i = 0; i < kBatches && !alive->is_over(); ++i) {
            const std::size_t count = alive->socket_->receive(
                [&](const Path& from, MutableBytes packet) { alive->on_packet(from, packet); });
            if (std::exchange(alive->heard_, false)) alive->after_batch();
            if (count == 0) break;
        }
        if (!alive->is_over()) alive->wait_socket();
    });
}

void ClientTunnel::on_packet(const Path& from, MutableBytes packet) {
    if (is_over() || from.peer != server_) return;
    const auto parsed = wire::parse_to_client(packet);
    if (!parsed) return;
    if (const auto* cookie = std::get_if<wire::SealedCookie>(&*parsed))
        return feed(event::CookieArrived{*cookie});
    const auto& header = std::get<wire::ServerMessageHeader>(*parsed);
    if (!session_ || header.extensions != session_->extensions()) return;
    const auto opened = session_->open_message(header.number, packet);
    if (!opened) return;
    if (session_->exhausted()) return cut(tunnel::End::numbers_used_up);
    if (introducing_) {
        feed(event::Confirmed{});
        introducing_.reset();
        stream_.limit_blocks(wire::kMaxBlock);
    }
    heard_ = true;
    (void)deliver(wire::parse_message(opened->message), io::now());
}

// ---- sending ----

std::optional<CurvecpTunnel::Envelope> ClientTunnel::envelope() {
    if (!session_) return std::nullopt;
    if (!introducing_) return Envelope{wire::kClientOverhead, wire::kMaxMessage};
    if (!introducing_->initiates.may_send()) return std::nullopt;
    return Envelope{wire::kInitiateOverhead, wire::kMaxInitiateMessage};
}

Result<> ClientTunnel::seal(MutableBytes packet) {
    if (!introducing_) return session_->seal_message(packet);
    introducing_->initiates.sent();
    return session_->seal_initiate(*introducing_->introduction, packet);
}

std::size_t ClientTunnel::transmit(Bytes train, std::size_t segment) {
    const std::size_t taken = socket_->send({server_, {}}, train, segment);
    if (taken < train.size() && !std::exchange(waits_room_, true)) {
        // Owns us: if we are released meanwhile, what waits goes out first.
        socket_->wait_writable([self = std::static_pointer_cast<ClientTunnel>(shared_from_this())] {
            if (self->is_over()) return;
            self->waits_room_ = false;
            self->on_writable();
        });
    }
    return taken;
}

Deadline ClientTunnel::own_deadline() const {
    if (!introducing_) return std::nullopt;
    return earliest({introducing_->runner.next_deadline(), introducing_->initiates.next_deadline()});
}

void ClientTunnel::on_own_deadline(Instant at) {
    if (!introducing_) return;
    introducing_->initiates.on_deadline(at);
    const auto self = shared_from_this();  // done() may let go of us
    introducing_->runner.look_at_clock(at);
}

void ClientTunnel::on_over() {
    socket_->close();
    finish(fail(handshake::Errc::stopped));
}

}  // namespace curvegate::tunnel::curvecp
