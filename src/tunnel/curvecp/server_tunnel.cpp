#include "tunnel/curvecp/server_tunnel.hpp"

#include "io/clock.hpp"

namespace curvegate::tunnel::curvecp {
namespace {

namespace wire = wire::curvecp;

constexpr Duration kProbeAgain = std::chrono::milliseconds(500);
constexpr Duration kGiveUp = std::chrono::seconds(10);
constexpr std::size_t kUnprovenTimes = 3;  // PROTOCOL 7.7

wire::MessageId random_id(RandomSource& random) {
    ByteArray<4> bytes{};
    random.fill(bytes);
    return {std::max(std::uint32_t{1}, load_le<std::uint32_t>(bytes))};
}

}  // namespace

ServerTunnel::ServerTunnel(CurvecpEndpoint& endpoint, session::curvecp::Session session, const io::Path& path,
                           std::shared_ptr<Guest> guest)
    : CurvecpTunnel(endpoint.context_, stream_options(path.peer, guest->dead_peer(), endpoint.tools_.chunks),
                    guest->dead_peer()),
      endpoint_(&endpoint),
      session_(std::move(session)),
      path_(path),
      guest_(std::move(guest)) {}

std::optional<CurvecpTunnel::Envelope> ServerTunnel::envelope() {
    return Envelope{wire::kServerOverhead, wire::kMaxMessage};
}

Result<> ServerTunnel::receive(const io::Path& from, const wire::ClientMessageHeader& header,
                               MutableBytes packet) {
    const auto opened = session_.open_message(header.number, packet);
    if (!opened) return std::unexpected(opened.error());
    return take(from, *opened, header.extensions, packet.size());
}

// PROTOCOL 7.5: a client goes on with Initiates until it has heard us.
Result<> ServerTunnel::receive(const io::Path& from, const wire::InitiateHeader& header,
                               MutableBytes packet) {
    const auto opened = session_.open_initiate(header.number, packet);
    if (!opened) return std::unexpected(opened.error());
    return take(from, *opened, header.extensions, packet.size());
}

Result<> ServerTunnel::take(const io::Path& from, const session::curvecp::Opened& opened,
                            const wire::Extensions& extensions, std::size_t packet_size) {
    const Instant at = io::now();
    if (session_.exhausted()) {
        cut(tunnel::TunnelEnd::numbers_used_up);
        return fail(session::Errc::numbers_exhausted);
    }
    const bool moved = from != path_ && (!candidate_ || from != candidate_->path);
    if (opened.newest && moved && !follow(from, at)) return fail(handshake::Errc::not_authorised);
    if (opened.newest && from == path_) candidate_.reset();  // it is where it was
    if (opened.newest) session_.set_client_extension(extensions.client);
    if (candidate_ && from == candidate_->path) {
        candidate_->received += packet_size;
        check_answer(from, opened.message, at);
    }
    (void)deliver(opened.message, at);
    return {};
}

void ServerTunnel::receive_first(MutableBytes message) {
    const auto parsed = wire::parse_message(message);
    if (!parsed || parsed->id.value == 0) stream_.want_ping();
    (void)deliver(message, io::now());
}

// ---- the path ----

bool ServerTunnel::follow(const io::Path& from, Instant at) {
    if (!guest_->may_come_from(io::address_of(from.peer))) return false;
    auto& random = *endpoint_->tools_.random;
    candidate_ = std::make_unique<Candidate>();
    candidate_->path = from;
    candidate_->probes = {random_id(random), random_id(random)};
    candidate_->probe_again = at;
    candidate_->give_up = at + kGiveUp;
    // If it has not moved and somebody only passes its packets on, it answers from where it is, with a higher
    // number.
    probe(path_, random_id(random));
    return true;
}

void ServerTunnel::check_answer(const io::Path& from, Bytes message, Instant at) {
    if (at >= candidate_->probe_again) probe_candidate(at);
    const auto parsed = wire::parse_message(message);
    if (!parsed) return;
    for (std::size_t i = 0; i < candidate_->probes.size(); ++i)
        candidate_->answered[i] = candidate_->answered[i] || parsed->acked_id == candidate_->probes[i];
    if (!std::ranges::all_of(candidate_->answered, std::identity{})) return;
    path_ = from;
    candidate_.reset();
    stream_.path_changed(at);
}

void ServerTunnel::probe_candidate(Instant at) {
    candidate_->probe_again = at + kProbeAgain;
    for (std::size_t i = 0; i < candidate_->probes.size(); ++i)
        if (!candidate_->answered[i]) probe(candidate_->path, candidate_->probes[i]);
}

// An empty block with an id: whoever has the session acknowledges it by that id.
void ServerTunnel::probe(const io::Path& to, wire::MessageId id) {
    ByteArray<wire::kServerOverhead + wire::message_size(0, false)> packet{};
    wire::Message message;
    message.id = id;
    message.has_block = true;
    wire::serialise(message, MutableBytes(packet).subspan(wire::kServerOverhead));
    const bool unproven = candidate_ && to == candidate_->path;
    if (unproven && candidate_->sent + packet.size() > kUnprovenTimes * candidate_->received) return;
    if (!session_.seal_message(packet)) return cut(tunnel::TunnelEnd::numbers_used_up);
    if (unproven) candidate_->sent += packet.size();
    (void)endpoint_->send(to, packet, packet.size());  // lost if the socket is full: it is sent again
}

// ---- sending ----

std::size_t ServerTunnel::allowance() {
    if (!candidate_) return io::UdpSocket::kMaxTrain;
    const std::size_t most = kUnprovenTimes * candidate_->received;
    return most - std::min(most, candidate_->sent);
}

std::size_t ServerTunnel::transmit(Bytes train, std::size_t segment) {
    if (endpoint_ == nullptr) return train.size();
    // What was sealed before the move, and is more than may go to an unproven place, goes where it was meant
    // to.
    const bool there = candidate_ && train.size() <= allowance();
    const std::size_t taken = endpoint_->send(there ? candidate_->path : path_, train, segment);
    if (there) candidate_->sent += taken;
    if (taken < train.size()) {
        endpoint_->blocked_.push_back(std::static_pointer_cast<ServerTunnel>(shared_from_this()));
        endpoint_->wait_room();
    }
    return taken;
}

Deadline ServerTunnel::own_deadline() const {
    if (!candidate_) return std::nullopt;
    return std::min(candidate_->probe_again, candidate_->give_up);
}

void ServerTunnel::on_own_deadline(Instant at) {
    if (at >= candidate_->give_up) {
        candidate_.reset();  // the last proven path is still the best guess
        return;
    }
    probe_candidate(at);
}

void ServerTunnel::leave() {
    if (endpoint_ != nullptr) endpoint_->tunnels_.erase(session_.client_short());
    endpoint_ = nullptr;
}

}  // namespace curvegate::tunnel::curvecp
