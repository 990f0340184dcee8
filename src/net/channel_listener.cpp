#include "net/admission.hpp"
#include "net/channel.hpp"
#include "net/listen.hpp"
#include "net/listener.hpp"
#include "net/tcp_messages.hpp"

namespace curvegate {
namespace {

constexpr std::size_t kSessionsPerPeer = 16'384;
constexpr Duration kDeadPeer = std::chrono::seconds(60);

WallTime wall_now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

}  // namespace

Listener::Impl::Impl(Vault vault, ListenOptions options)
    : vault_(std::move(vault)),
      options_(std::move(options)),
      admission_(std::make_shared<net::Admission>(net::AdmissionLimits{}, vault_.impl()->random)),
      sessions_(std::make_shared<net::SessionLimits>()),
      accepted_(std::make_shared<net::Mailbox<Channel>>(vault_.impl()->context)) {
    allow_.names = options_.allow;
    if (!allow_.names.empty()) return;
    for (const auto& entry : vault_.impl()->registry.entries()) {
        allow_.names.insert(allow_.names.end(), entry.names.begin(), entry.names.end());
    }
}

Result<> Listener::Impl::listen() {
    return options_.carrier == Carrier::tcp ? listen_tcp() : listen_udp();
}

// Its channels are made by welcome() with a net::StreamMessages each.
Result<> Listener::Impl::listen_udp() {
    return fail(os::Errc::system, "carrier udp is not available");
}

Result<> Listener::Impl::listen_tcp() {
    const auto address = IpAddress::parse(options_.host);
    if (!address) return fail(os::Errc::system, options_.host + " is not an address");
    const std::string what = "listen on " + options_.host + " port " + std::to_string(options_.port);
    auto fd = net::listen_tcp({*address, options_.port, what});
    if (!fd) return fail(std::move(fd));
    port = net::port_of(fd->get());
    listener_ = std::make_unique<net::Listener>(
        vault_.impl()->context, std::move(*fd), "channels",
        [weak = weak_from_this()](net::Stream stream, const std::string&, const IpAddress& source) {
            if (const auto self = weak.lock()) self->shake_hands(std::move(stream), source);
        });
    listener_->start();
    return {};
}

void Listener::Impl::shake_hands(net::Stream stream, const IpAddress& source) {
    auto& with = *vault_.impl();
    auto handle = std::make_shared<std::weak_ptr<net::HandshakeHandle>>();
    auto ticket =
        admission_->admit(source, std::chrono::steady_clock::now(), with.client.busy(), [&with, handle] {
            boost::asio::post(with.context, [handle] {
                if (const auto running = handle->lock()) running->stop();
            });
        });
    if (!ticket) return;
    struct Guest {
        std::string name;
        std::optional<net::SessionLimits::Slot> slot;
    };
    auto guest = std::make_shared<Guest>();
    auto authorise = [this, self = shared_from_this(), guest,
                      source](const crypto::PublicKey& key) -> std::optional<std::string> {
        const auto decision = vault_.impl()->registry.authorise(key, allow_, source, wall_now());
        if (decision.verdict != registry::Verdict::allowed) return std::string(describe(decision.verdict));
        auto slot = sessions_->take(key, kSessionsPerPeer);
        if (!slot) return "too many sessions of this peer";
        guest->name = decision.name;
        guest->slot.emplace(std::move(*slot));
        return std::nullopt;
    };
    auto done = [self = shared_from_this(), guest,
                 ticket = std::move(*ticket)](Result<net::Established> result) mutable {
        if (!result) return;
        ticket.succeed(std::chrono::steady_clock::now());
        auto pipe = std::make_unique<net::TcpMessages>(std::move(result->stream), std::move(result->session),
                                                       kDeadPeer);
        self->welcome(std::move(pipe), result->peer, guest->name, std::move(*guest->slot));
    };
    *handle = net::start_server_handshake(std::move(stream), with.tools(), source, std::move(authorise),
                                          std::move(done));
}

void Listener::Impl::welcome(std::unique_ptr<net::MessagePipe> pipe, const crypto::PublicKey& peer,
                             const std::string& name, net::SessionLimits::Slot slot) {
    auto channel = std::make_shared<Channel::Impl>(vault_, std::move(pipe), peer, name);
    channel->slot.emplace(std::move(slot));
    accepted_->put(Channel(std::move(channel)));
}

void Listener::Impl::close() {
    if (listener_) listener_->stop();
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
