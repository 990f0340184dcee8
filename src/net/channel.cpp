#include "net/channel.hpp"

#include "net/admission.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>

namespace curvegate {
namespace {

using session::curve_tun::kFrameOverhead;
constexpr std::size_t kHeader = wire::curve_tun::kFrameHeaderSize;
constexpr Duration kDeadPeer = std::chrono::seconds(60);
static_assert(kMaxMessageSize == session::curve_tun::kMaxMessageSize);

class ChannelCategory final : public boost::system::error_category {
  public:
    [[nodiscard]] const char* name() const noexcept override { return "curvegate"; }
    [[nodiscard]] std::string message(int code) const override {
        switch (static_cast<ChannelError>(code)) {
            case ChannelError::closed: return "channel is closed";
            case ChannelError::message_too_long: return "message is longer than 65,503 bytes";
            case ChannelError::bad_message: return "message does not open or is out of order";
            case ChannelError::numbers_exhausted: return "message numbers are used up";
            case ChannelError::no_pin: return "known_hosts has no valid key for this peer";
            case ChannelError::wrong_key: return "wrong key for this peer, or not a curve_tun server";
            case ChannelError::cannot_connect: return "cannot connect";
            case ChannelError::timed_out: return "timed out";
            case ChannelError::vault_unavailable: return "the vault is not available";
            case ChannelError::out_of_memory: return "no locked memory left for secrets";
        }
        return "unknown error";
    }
};

}  // namespace

const boost::system::error_category& channel_category() noexcept {
    static const ChannelCategory instance;
    return instance;
}

std::string PeerKey::text() const {
    return crypto::encode_key(bytes, crypto::KeyFormat::base64);
}

std::optional<PeerKey> PeerKey::parse(std::string_view text) {
    const auto key = crypto::PublicKey::from_text(text);
    if (!key) return std::nullopt;
    return PeerKey{to_array(key->bytes())};
}

// ---- the actor ----

Channel::Impl::Impl(Vault vault, net::Established established, std::string name)
    : peer{to_array(established.peer.bytes())},
      peer_name(std::move(name)),
      vault_(std::move(vault)),
      stream_(std::move(established.stream)),
      session_(std::move(established.session)),
      inbox_(std::make_shared<net::Mailbox<Message>>(vault_.impl()->context)) {
    net::set_tunnel_options(stream_, kDeadPeer);
}

void Channel::Impl::complete(SendHandler handler, error_code error) {
    auto& context = vault_.impl()->context;
    boost::asio::post(context, [&context, handler = std::move(handler), error]() mutable {
        const auto executor = boost::asio::get_associated_executor(handler, context.get_executor());
        boost::asio::dispatch(executor,
                              [handler = std::move(handler), error]() mutable { std::move(handler)(error); });
    });
}

void Channel::Impl::send(Bytes message, SendHandler handler) {
    if (!open || send_broken_) return complete(std::move(handler), ChannelError::closed);
    if (message.size() > kMaxMessageSize) return complete(std::move(handler), ChannelError::message_too_long);
    std::vector<Byte> frame(kFrameOverhead + message.size());
    std::ranges::copy(message, frame.begin() + kFrameOverhead);
    if (!session_.seal_frame(frame)) {
        complete(std::move(handler), ChannelError::numbers_exhausted);
        return close(ChannelError::numbers_exhausted, true);
    }
    outbox_.push_back({std::move(frame), std::move(handler)});
    if (outbox_.size() == 1) write_next();
}

void Channel::Impl::write_next() {
    boost::asio::async_write(stream_, boost::asio::buffer(outbox_.front().frame),
                             [self = shared_from_this()](error_code error, std::size_t) {
                                 if (!self->open) return;  // close() has answered everybody
                                 if (error) {
                                     self->send_broken_ = true;
                                     return self->fail_sends();
                                 }
                                 auto sent = std::move(self->outbox_.front());
                                 self->outbox_.pop_front();
                                 self->complete(std::move(sent.handler), {});
                                 if (!self->outbox_.empty()) return self->write_next();
                                 if (self->session_.exhausted())
                                     self->close(ChannelError::numbers_exhausted, true);
                             });
}

void Channel::Impl::receive(std::optional<Duration> timeout, net::Mailbox<Message>::Handler handler) {
    inbox_->wait(timeout, std::move(handler));
    read();
}

void Channel::Impl::read() {
    if (reading_ || !open || !inbox_->awaited() || inbox_->size() != 0) return;
    reading_ = true;
    // First the two bytes of the length, then exactly the packet: nothing is read ahead of what is awaited.
    if (incoming_.size() < kHeader) incoming_.resize(kHeader);
    stream_.async_read_some(boost::asio::buffer(incoming_.data() + have_, incoming_.size() - have_),
                            [self = shared_from_this()](error_code error, std::size_t size) {
                                self->reading_ = false;
                                if (!self->open) return;
                                if (error) return self->close(ChannelError::closed, true);
                                self->have_ += size;
                                self->on_bytes();
                            });
}

void Channel::Impl::on_bytes() {
    if (have_ == incoming_.size() && have_ == kHeader) {
        const std::size_t size = wire::curve_tun::parse_frame_header(Bytes(incoming_).first<kHeader>());
        if (size < wire::curve_tun::kMessageOverhead) return close(ChannelError::bad_message, true);
        incoming_.resize(kHeader + size);
    } else if (have_ == incoming_.size()) {
        const auto payload = session_.open_packet(MutableBytes(incoming_).subspan(kHeader));
        if (!payload) return close(ChannelError::bad_message, true);
        inbox_->put(Message(payload->begin(), payload->end()));
        have_ = 0;
        incoming_ = {};
        if (session_.exhausted()) return close(ChannelError::numbers_exhausted, true);
    }
    // A waiter that was served runs first and may come back for more; what else waits is read for then.
    boost::asio::post(vault_.impl()->context, [self = shared_from_this()] { self->read(); });
}

void Channel::Impl::close(error_code why, bool deliver) {
    if (!open) return;
    open = false;
    error_code ignored;
    stream_.close(ignored);
    if (deliver) {
        inbox_->close(why);
    } else {
        inbox_->close_at_once(why);
    }
    fail_sends();
}

void Channel::Impl::fail_sends() {
    for (auto& outgoing : std::exchange(outbox_, {}))
        complete(std::move(outgoing.handler), ChannelError::closed);
}

// ---- the handle ----

Channel& Channel::operator=(Channel&& other) noexcept {
    if (this != &other) {
        close();
        impl_ = std::move(other.impl_);
    }
    return *this;
}
Channel::~Channel() {
    close();
}

void Channel::send(std::span<const std::uint8_t> message, SendHandler handler) {
    impl_->send(message, std::move(handler));
}
void Channel::receive(std::optional<Duration> timeout, ReceiveHandler handler) {
    impl_->receive(timeout, std::move(handler));
}
void Channel::close() {
    if (impl_) impl_->close(ChannelError::closed, false);
}
bool Channel::is_open() const noexcept {
    return impl_ && impl_->open;
}
const PeerKey& Channel::peer() const noexcept {
    return impl_->peer;
}
const std::string& Channel::peer_name() const noexcept {
    return impl_->peer_name;
}

// ---- connect ----

namespace {

ChannelError meaning_of(const Error& why) {
    if (why.is(net::DialErrc::no_pin)) return ChannelError::no_pin;
    if (why.is(net::DialErrc::wrong_key)) return ChannelError::wrong_key;
    if (why.is(net::DialErrc::timeout)) return ChannelError::timed_out;
    if (why.is(handshake::Errc::vault_timeout) || why.is(handshake::Errc::vault_unavailable)) {
        return ChannelError::vault_unavailable;
    }
    if (why.is(handshake::Errc::no_secret_memory)) return ChannelError::out_of_memory;
    return ChannelError::cannot_connect;
}

WallTime wall_now() {
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

}  // namespace

void start_connect(const Vault& vault, const ConnectOptions& options, ConnectHandler handler) {
    auto& with = *vault.impl();
    net::TunnelTarget target{
        {options.host, options.port, {}}, options.peer, with.registry.keys_of(options.peer, wall_now())};
    const auto deadline = std::chrono::steady_clock::now() + options.timeout;
    net::dial_tunnel(
        with.context, *with.resolver, with.tools(), std::move(target), deadline,
        [vault, name = options.peer, handler = std::move(handler)](Result<net::Established> result) mutable {
            error_code error;
            Channel channel;
            if (result) {
                channel = Channel(std::make_shared<Channel::Impl>(vault, std::move(*result), name));
            } else {
                error = meaning_of(result.error());
            }
            const auto executor =
                boost::asio::get_associated_executor(handler, vault.impl()->context.get_executor());
            boost::asio::dispatch(
                executor, [handler = std::move(handler), error, channel = std::move(channel)]() mutable {
                    std::move(handler)(error, std::move(channel));
                });
        });
}

}  // namespace curvegate
