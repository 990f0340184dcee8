#include "channel/channel.hpp"
#include "io/clock.hpp"
#include "tunnel/accept.hpp"
#include "wire/curvecp.hpp"
#include "wires/wires.hpp"

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
      wire_(wires::of(options_.wire)),
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
    const bool has_name = service::names_services(options_.wire) && options_.server_name != "*";
    if (has_name && !wire::curvecp::encode_server_name(options_.server_name))
        return fail(os::Errc::system, "server_name " + options_.server_name + " is not a domain name");
    const auto place = place_of(options_);
    if (!place) return std::unexpected(place.error());
    return wire_.transport() == service::Transport::udp ? listen_udp(*place) : listen_tcp(*place);
}

tunnel::Environment Listener::Impl::lent() {
    auto out = vault_.impl()->lent();
    out.admission = admission_;
    out.counters = counters_;
    return out;
}

/// A client that shakes hands.
class Listener::Impl::Newcomer final : public tunnel::Guest {
  public:
    Newcomer(Vault vault, std::weak_ptr<Impl> listener, const IpAddress& source)
        : vault_(std::move(vault)), listener_(std::move(listener)), source_(source) {}

    std::optional<std::string> authorise(const crypto::PublicKey& client, std::string_view asked) override {
        const auto listener = listener_.lock();
        if (!listener) return "the listener is closed";
        const auto& name = listener->options_.server_name;
        if (service::names_services(listener->options_.wire) && name != "*" && name != asked)
            return "another service was asked for";
        if (listener->accepted_->size() >= kMaxWaitingChannels)
            return "too many channels wait to be accepted";
        const auto decision = listener->judge(client, source_);
        if (decision.verdict != registry::Verdict::allowed) return std::string(describe(decision.verdict));
        auto slot = listener->sessions_->take(
            guard::ServiceId{}, guard::SessionLimits::Client{client, source_}, {.of_peer = kSessionsPerPeer});
        if (!slot) return slot.error().text();
        slot_ = std::make_shared<const guard::SessionLimits::Slot>(std::move(*slot));
        name_ = decision.name;
        key_ = client;
        return std::nullopt;
    }
    bool may_come_from(const IpAddress& source) override {
        const auto listener = listener_.lock();
        return listener && listener->judge(*key_, source).verdict == registry::Verdict::allowed;
    }
    [[nodiscard]] Duration dead_peer() const override { return kDeadPeer; }
    [[nodiscard]] const service::WireOptions& options() const override {
        static const service::WireOptions kDefaults;
        return kDefaults;
    }

    void established(std::unique_ptr<tunnel::Tunnel> tunnel) override {
        const auto listener = listener_.lock();
        // Several may have been let in at once; a tunnel that nobody takes ends.
        if (!listener || listener->accepted_->size() >= kMaxWaitingChannels) return;
        struct Kept {
            std::shared_ptr<Vault::Impl> vault;  // destroyed last
            std::shared_ptr<tunnel::Endpoint> endpoint;
            std::shared_ptr<const guard::SessionLimits::Slot> slot;
        };
        (void)tunnel->outlive(
            std::make_shared<const Kept>(listener->vault_.impl(), listener->endpoint_, slot_), nullptr);
        auto channel =
            std::make_shared<Channel::Impl>(listener->vault_, tunnel->messages(), *key_, std::move(name_));
        channel->slot = std::move(slot_);
        listener->accepted_->put(Channel(std::move(channel)));
    }
    void refused(const Error&) override {}

  private:
    Vault vault_;  // owns what a handshake borrows: destroyed last
    std::weak_ptr<Impl> listener_;
    IpAddress source_;
    std::string name_;
    std::optional<crypto::PublicKey> key_;
    std::shared_ptr<const guard::SessionLimits::Slot> slot_;
};

registry::Decision Listener::Impl::judge(const crypto::PublicKey& key, const IpAddress& source) const {
    return vault_.impl()->registry.authorise(key, allow_, source, io::wall_now());
}

Result<> Listener::Impl::listen_udp(const io::ListenPlace& place) {
    auto sockets = io::open_udp_endpoint(place, 1);
    if (!sockets) return fail(std::move(sockets));
    port = io::port_of(sockets->front().get());
    endpoint_ = wire_.make_endpoint(lent(), std::move(sockets->front()), std::move(sockets->back()), {},
                                    [vault = vault_, weak = weak_from_this()](const Path& from) {
                                        return std::make_shared<Newcomer>(vault, weak, from.peer.address.ip);
                                    });
    endpoint_->start();
    return {};
}

Result<> Listener::Impl::listen_tcp(const io::ListenPlace& place) {
    auto fd = io::listen_tcp(place);
    if (!fd) return fail(std::move(fd));
    port = io::port_of(fd->get());
    listener_ = std::make_unique<io::Listener>(
        vault_.impl()->context, std::move(*fd), "channels",
        [weak = weak_from_this()](io::Stream stream, const std::string&, const IpAddress& source) {
            const auto self = weak.lock();
            if (!self) return;
            tunnel::accept(self->wire_, self->lent(), std::move(stream), source,
                           std::make_shared<Newcomer>(self->vault_, weak, source));
        });
    listener_->start();
    return {};
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
