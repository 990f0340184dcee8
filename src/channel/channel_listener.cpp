#include "guard/admission.hpp"

#include "channel/channel.hpp"
#include "io/clock.hpp"
#include "io/listen.hpp"
#include "io/listener.hpp"
#include "tunnel/curve_tun/messages.hpp"
#include "tunnel/curvecp/messages.hpp"

namespace curvegate {
namespace {

constexpr std::size_t kSessionsPerPeer = 16'384;
constexpr Duration kDeadPeer = service::Limits{}.dead_peer;

Result<io::ListenPlace> place_of(const ListenOptions& options) {
    const auto address = IpAddress::parse(options.host);
    if (!address) return fail(os::Errc::system, options.host + " is not an address");
    return io::ListenPlace{*address, options.port,
                           "listen on " + options.host + " port " + std::to_string(options.port)};
}

}  // namespace

Listener::Impl::Impl(Vault vault, ListenOptions options)
    : vault_(std::move(vault)),
      options_(std::move(options)),
      admission_(std::make_shared<guard::Admission>(guard::AdmissionLimits{}, vault_.impl()->random)),
      sessions_(std::make_shared<guard::SessionLimits>()),
      accepted_(std::make_shared<io::Mailbox<Channel>>(vault_.impl()->context)) {
    allow_.names = options_.allow;
    if (!allow_.names.empty()) return;
    for (const auto& entry : vault_.impl()->registry.entries()) {
        allow_.names.insert(allow_.names.end(), entry.names.begin(), entry.names.end());
    }
}

Result<> Listener::Impl::listen() {
    return options_.wire == Wire::curve_tun ? listen_tcp() : listen_udp();
}

/// A client that came over UDP.
class Listener::Impl::UdpGuest final : public tunnel::curvecp::Guest {
  public:
    UdpGuest(std::weak_ptr<Impl> listener, const Path& from, std::optional<wire::curvecp::ServerName> name)
        : listener_(std::move(listener)), from_(from), name_(name) {}

    std::optional<std::string> authorise(const crypto::PublicKey& client,
                                         const wire::curvecp::ServerName& name) override {
        const auto listener = listener_.lock();
        if (!listener) return "the listener is closed";
        if (name_ && *name_ != name) return "another service was asked for";
        key_ = client;
        return listener->authorise(guest_, client, from_.peer.address.ip);
    }
    bool may_come_from(const IpAddress& source) override {
        const auto listener = listener_.lock();
        return listener && listener->vault_.impl()
                                   ->registry.authorise(*key_, listener->allow_, source, io::wall_now())
                                   .verdict == registry::Verdict::allowed;
    }
    void established(tunnel::TunnelHandle tunnel, vault::KeySlot) override {
        const auto listener = listener_.lock();
        if (!listener) return;  // the handle gives it up
        struct Kept {
            std::shared_ptr<Vault::Impl> vault;  // destroyed last
            std::shared_ptr<tunnel::curvecp::CurvecpEndpoint> endpoint;
            guard::SessionLimits::Slot slot;  // its memory may outlive the channel, and counts as long
        };
        tunnel->keep_alive = std::make_shared<const Kept>(listener->vault_.impl(), listener->endpoint_,
                                                          std::move(*guest_.slot));
        guest_.slot.reset();
        listener->welcome(std::make_unique<tunnel::curvecp::StreamMessages>(std::move(tunnel)), *key_,
                          guest_);
    }
    [[nodiscard]] Duration dead_peer() const override { return kDeadPeer; }
    void refused(const Error&) override {}

  private:
    std::weak_ptr<Impl> listener_;
    Path from_;
    std::optional<wire::curvecp::ServerName> name_;
    Impl::Guest guest_;
    std::optional<crypto::PublicKey> key_;
};

Result<> Listener::Impl::listen_udp() {
    auto& with = *vault_.impl();
    const auto place = place_of(options_);
    if (!place) return std::unexpected(place.error());
    std::optional<wire::curvecp::ServerName> name;
    if (options_.server_name != "*") {
        name = wire::curvecp::encode_server_name(options_.server_name);
        if (!name)
            return fail(os::Errc::system, "server_name " + options_.server_name + " is not a domain name");
    }
    auto sockets = io::open_udp_endpoint(*place, 1);
    if (!sockets) return fail(std::move(sockets));
    port = io::port_of(sockets->front().get());
    endpoint_ = std::make_shared<tunnel::curvecp::CurvecpEndpoint>(
        with.context, std::move(sockets->front()), std::move(sockets->back()),
        tunnel::curvecp::CurvecpEndpoint::Options{}, with.tools(), admission_,
        std::make_shared<guard::Counters>(), [weak = weak_from_this(), name](const Path& from) {
            return std::make_shared<UdpGuest>(weak, from, name);
        });
    endpoint_->start();
    return {};
}

Result<> Listener::Impl::listen_tcp() {
    const auto place = place_of(options_);
    if (!place) return std::unexpected(place.error());
    auto fd = io::listen_tcp(*place);
    if (!fd) return fail(std::move(fd));
    port = io::port_of(fd->get());
    listener_ = std::make_unique<io::Listener>(
        vault_.impl()->context, std::move(*fd), "channels",
        [weak = weak_from_this()](io::Stream stream, const std::string&, const IpAddress& source) {
            if (const auto self = weak.lock()) self->shake_hands(std::move(stream), source);
        });
    listener_->start();
    return {};
}

std::optional<std::string> Listener::Impl::authorise(Guest& guest, const crypto::PublicKey& key,
                                                     const IpAddress& source) {
    if (accepted_->size() >= kMaxWaitingChannels) return "too many channels wait to be accepted";
    const auto decision = vault_.impl()->registry.authorise(key, allow_, source, io::wall_now());
    if (decision.verdict != registry::Verdict::allowed) return std::string(describe(decision.verdict));
    auto slot = sessions_->take(guard::ServiceId{}, guard::SessionLimits::Client{key, source},
                                {.of_peer = kSessionsPerPeer});
    if (!slot) return slot.error().text();
    guest.name = decision.name;
    guest.slot.emplace(std::move(*slot));
    return std::nullopt;
}

void Listener::Impl::shake_hands(io::Stream stream, const IpAddress& source) {
    auto& with = *vault_.impl();
    auto handle = std::make_shared<std::weak_ptr<tunnel::curve_tun::HandshakeHandle>>();
    auto ticket = admission_->admit(source, io::now(), with.client.busy(), [&with, handle] {
        boost::asio::post(with.context, [handle] {
            if (const auto running = handle->lock()) running->stop();
        });
    });
    if (!ticket) return;
    auto guest = std::make_shared<Guest>();
    auto may_in = [self = shared_from_this(), guest, source](const crypto::PublicKey& key) {
        return self->authorise(*guest, key, source);
    };
    auto done = [self = shared_from_this(), guest,
                 ticket = std::move(*ticket)](Result<tunnel::curve_tun::Established> result) mutable {
        if (!result) return;
        ticket.succeed(io::now());
        auto pipe = std::make_unique<tunnel::curve_tun::TcpMessages>(std::move(result->stream),
                                                                     std::move(result->session), kDeadPeer);
        self->welcome(std::move(pipe), result->peer, *guest);
    };
    *handle = tunnel::curve_tun::start_server_handshake(std::move(stream), with.tools(), source,
                                                        std::move(may_in), std::move(done));
}

void Listener::Impl::welcome(std::unique_ptr<tunnel::MessagePipe> pipe, const crypto::PublicKey& peer,
                             Guest& guest) {
    if (accepted_->size() >= kMaxWaitingChannels) return;  // several were let in at once; the pipe closes
    auto channel = std::make_shared<Channel::Impl>(vault_, std::move(pipe), peer, guest.name);
    if (guest.slot) channel->slot.emplace(std::move(*guest.slot));  // over udp its tunnel has it
    accepted_->put(Channel(std::move(channel)));
}

void Listener::Impl::close() {
    if (listener_) listener_->stop();
    if (endpoint_) endpoint_->stop_accepting();
    endpoint_.reset();
    accepted_->close_at_once(ChannelError::closed);
}

std::expected<Listener, std::string> Listener::listen(const Vault& vault, const ListenOptions& options) {
    auto impl = std::make_shared<Impl>(vault, options);
    if (auto listening = impl->listen(); !listening) return std::unexpected(listening.error().text());
    return Listener(std::move(impl));
}

Listener& Listener::operator=(Listener&& other) noexcept {
    if (this != &other) {
        close();
        impl_ = std::move(other.impl_);
    }
    return *this;
}
Listener::~Listener() {
    close();
}
void Listener::accept(ConnectHandler handler) {
    impl_->accept(std::move(handler));
}
std::uint16_t Listener::port() const noexcept {
    return impl_->port;
}
void Listener::close() {
    if (impl_) impl_->close();
}

}  // namespace curvegate
