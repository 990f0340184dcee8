#include "tunnel/curvecp/server_tunnel.hpp"

#include "io/clock.hpp"

namespace curvegate::tunnel::curvecp {
namespace {

namespace wire = wire::curvecp;

}  // namespace

ServerTunnel::ServerTunnel(CurvecpEndpoint& endpoint, session::curvecp::Session session, const Path& path,
                           std::shared_ptr<Guest> guest)
    : CurvecpTunnel(endpoint.context_, stream_options(path.peer, guest->dead_peer(), endpoint.tools_.chunks),
                    guest->dead_peer()),
      endpoint_(&endpoint),
      session_(std::move(session)),
      path_(path, *endpoint.tools_.random),
      guest_(std::move(guest)) {}

std::optional<CurvecpTunnel::Envelope> ServerTunnel::envelope() {
    return Envelope{wire::kServerOverhead, wire::kMaxMessage};
}

Result<> ServerTunnel::receive(const Path& from, const wire::ClientMessageHeader& header,
                               MutableBytes packet) {
    const auto opened = session_.open_message(header.number, packet);
    if (!opened) return std::unexpected(opened.error());
    return take(from, *opened, header.extensions, packet.size());
}

// PROTOCOL 7.5: a client goes on with Initiates until it has heard us.
Result<> ServerTunnel::receive(const Path& from, const wire::InitiateHeader& header, MutableBytes packet) {
    const auto opened = session_.open_initiate(header.number, packet);
    if (!opened) return std::unexpected(opened.error());
    return take(from, *opened, header.extensions, packet.size());
}

Result<> ServerTunnel::take(const Path& from, const session::curvecp::Opened& opened,
                            const wire::Extensions& extensions, std::size_t packet_size) {
    const Instant at = io::now();
    if (session_.exhausted()) {
        cut(tunnel::End::numbers_used_up);
        return fail(session::Errc::numbers_exhausted);
    }
    const auto message = wire::parse_message(opened.message);
    const handshake::curvecp::Arrival arrival{from, opened.newest, packet_size,
                                              message ? message->acked_id : wire::MessageId{}};
    if (path_.begins_move(arrival) && !guest_->may_come_from(from.peer.address.ip))
        return fail(handshake::Errc::not_authorised);
    const auto reaction = path_.take(arrival, at);
    challenge(reaction.to_proven);  // under the extension that it had there
    if (opened.newest) session_.set_client_extension(extensions.client);
    for (const auto& each : reaction.to_candidate) challenge(each);
    if (reaction.has_moved) stream_.path_changed(at);
    (void)deliver(message, at);
    return {};
}

void ServerTunnel::receive_first(Bytes bytes) {
    const auto message = wire::parse_message(bytes);
    if (!message || message->id.value == 0) stream_.want_ping();
    (void)deliver(message, io::now());
}

// An empty block with an id: whoever has the session acknowledges it by that id.
void ServerTunnel::challenge(const std::optional<handshake::curvecp::Challenge>& challenge) {
    if (!challenge) return;
    ByteArray<handshake::curvecp::kChallengeSize> packet{};
    wire::Message message;
    message.id = challenge->id;
    message.has_block = true;
    wire::serialise(message, MutableBytes(packet).subspan(wire::kServerOverhead));
    if (!session_.seal_message(packet)) return cut(tunnel::End::numbers_used_up);
    // Lost if the socket is full: it is sent again.
    (void)endpoint_->send(challenge->to, packet, packet.size());
}

// ---- sending ----

std::size_t ServerTunnel::allowance() {
    return std::min(path_.allowance(), io::DatagramSocket::kMaxTrain);
}

std::size_t ServerTunnel::transmit(Bytes train, std::size_t segment) {
    if (endpoint_ == nullptr) return train.size();
    // What was sealed before the move, and is more than may go to an unproven place, goes where it was meant
    // to.
    const Path& to = path_.path_for(train.size());
    const std::size_t taken = endpoint_->send(to, train, segment);
    path_.sent(to, taken);
    if (taken < train.size()) {
        endpoint_->blocked_.push_back(std::static_pointer_cast<ServerTunnel>(shared_from_this()));
        endpoint_->wait_room();
    }
    return taken;
}

void ServerTunnel::on_own_deadline(Instant at) {
    const auto reaction = path_.on_deadline(at);
    for (const auto& each : reaction.to_candidate) challenge(each);
}

void ServerTunnel::leave() {
    if (endpoint_ != nullptr) endpoint_->tunnels_.erase(session_.client_short());
    endpoint_ = nullptr;
}

}  // namespace curvegate::tunnel::curvecp
