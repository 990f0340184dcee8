#include "channel/channel.hpp"

#include "io/clock.hpp"
#include "session/errors.hpp"

namespace curvegate {
namespace {

constexpr Duration kDeadPeer = service::Limits{}.dead_peer;

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
            case ChannelError::wrong_key: return "wrong key for this peer, or no such server there";
            case ChannelError::cannot_connect: return "cannot connect";
            case ChannelError::timed_out: return "timed out";
            case ChannelError::vault_unavailable: return "the vault is not available";
            case ChannelError::out_of_memory: return "no locked memory left for secrets";
            case ChannelError::too_many_sends: return "too many sends wait for the peer";
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

namespace {

ChannelError meaning_of(tunnel::End end) {
    switch (end) {
        case tunnel::End::bad_message:
        case tunnel::End::bad_length:
        case tunnel::End::after_end: return ChannelError::bad_message;
        case tunnel::End::numbers_used_up: return ChannelError::numbers_exhausted;
        case tunnel::End::closed:
        case tunnel::End::unheard:
        case tunnel::End::cut:
        case tunnel::End::dead_peer:
        case tunnel::End::no_answer:
        case tunnel::End::cannot_ask:
        case tunnel::End::stopped: break;
    }
    return ChannelError::closed;
}

}  // namespace

// The pipe's handlers need no owner: it calls none once it is closed or gone.
Channel::Impl::Impl(Vault vault, std::unique_ptr<tunnel::MessagePipe> pipe, const crypto::PublicKey& key,
                    std::string name, Duration dead_peer)
    : peer{to_array(key.bytes())},
      peer_name(std::move(name)),
      vault_(std::move(vault)),
      pipe_(std::move(pipe)),
      inbox_(std::make_shared<io::Mailbox<Message>>(vault_.impl()->context)),
      dead_peer_(dead_peer),
      watch_(vault_.impl()->context) {
    pipe_->on_message = [this](Bytes message) { return on_message(message); };
    pipe_->on_drained = [this] { on_drained(); };
    pipe_->on_end = [this](tunnel::End end) { close(meaning_of(end), Unread::deliver); };
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
    if (!open || !pipe_->takes_more()) return complete(std::move(handler), ChannelError::closed);
    if (message.size() > kMaxMessageSize) return complete(std::move(handler), ChannelError::message_too_long);
    if (outbox_.size() >= kMaxWaitingSends || message.size() > kMaxWaitingBytes - waiting_bytes_)
        return complete(std::move(handler), ChannelError::too_many_sends);
    if (outbox_.empty()) {
        hand_over(message, std::move(handler));
    } else {
        outbox_.push_back({Message(message.begin(), message.end()), std::move(handler)});
        waiting_bytes_ += message.size();
    }
    watch();
}

Channel::Impl::Outgoing Channel::Impl::take_first() {
    Outgoing first = std::move(outbox_.front());
    outbox_.pop_front();
    waiting_bytes_ -= first.message.size();
    return first;
}

// Returns false if it waits for the wire, as the first of the outbox.
bool Channel::Impl::hand_over(Bytes message, SendHandler handler) {
    const auto sent = pipe_->send(message);
    if (sent && pipe_->backlog() > 0) {
        outbox_.push_front({{}, std::move(handler)});
        return false;
    }
    if (sent) {
        complete(std::move(handler), {});
    } else if (sent.error().is(session::Errc::numbers_exhausted)) {
        complete(std::move(handler), ChannelError::numbers_exhausted);
        close(ChannelError::numbers_exhausted, Unread::deliver);
    } else {
        complete(std::move(handler), ChannelError::closed);
    }
    return true;
}

void Channel::Impl::on_drained() {
    if (!pipe_->takes_more()) return fail_sends();
    complete(take_first().handler, {});
    while (!outbox_.empty()) {
        auto next = take_first();
        if (!hand_over(next.message, std::move(next.handler))) return;
    }
    watch();
}

// Over TCP the kernel finds a dead peer by itself only while nothing is unacknowledged. It is looked for
// while somebody waits: a timer must not keep a loop running that has nothing else to do.
void Channel::Impl::watch() {
    const bool wanted = open && (!outbox_.empty() || inbox_->awaited());
    if (std::exchange(watching_, wanted) == wanted) return;
    if (!wanted) {
        watch_.cancel();
        return;
    }
    watch_.expires_after(dead_peer_ / 4);
    watch_.async_wait([weak = weak_from_this()](error_code error) {
        const auto self = weak.lock();
        if (error || !self) return;
        self->watching_ = false;
        if (self->open && self->pipe_->is_silent(self->dead_peer_))
            return self->close(meaning_of(tunnel::End::dead_peer), Unread::deliver);
        self->watch();
    });
}

void Channel::Impl::receive(std::optional<Duration> timeout, io::Mailbox<Message>::Handler handler) {
    inbox_->wait(timeout, std::move(handler));
    read();
}

void Channel::Impl::read() {
    if (open && inbox_->awaited() && inbox_->size() == 0) pipe_->resume();
    watch();
}

// One message at a time: nothing is taken from the pipe before it is awaited.
bool Channel::Impl::on_message(Bytes message) {
    inbox_->put(Message(message.begin(), message.end()));
    // A waiter that was served runs first and may come back for more; what else waits is read for then.
    boost::asio::post(vault_.impl()->context, [self = shared_from_this()] { self->read(); });
    return false;
}

void Channel::Impl::close(error_code why, Unread unread) {
    if (!open) return;
    open = false;
    watch();
    pipe_->close();
    if (unread == Unread::deliver) {
        inbox_->close(why);
    } else {
        inbox_->close_at_once(why);
    }
    fail_sends();
}

void Channel::Impl::fail_sends() {
    waiting_bytes_ = 0;
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
    if (impl_) impl_->close(ChannelError::closed, Impl::Unread::drop);
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
    if (why.is(io::DialErrc::no_pin)) return ChannelError::no_pin;
    if (why.is(io::DialErrc::wrong_key) || why.is(io::DialErrc::no_cookie)) return ChannelError::wrong_key;
    if (why.is(io::DialErrc::timeout)) return ChannelError::timed_out;
    if (why.is(handshake::Errc::vault_timeout) || why.is(handshake::Errc::vault_unavailable)) {
        return ChannelError::vault_unavailable;
    }
    if (why.is(handshake::Errc::no_secret_memory)) return ChannelError::out_of_memory;
    return ChannelError::cannot_connect;
}

}  // namespace

void start_connect(const Vault& vault, const ConnectOptions& options, ConnectHandler handler) {
    auto& with = *vault.impl();
    tunnel::Opening wanted;
    wanted.address = {options.host, options.port, {}};
    wanted.peer = options.peer;
    wanted.keys = with.registry.keys_of(options.peer, io::wall_now());
    wanted.options.server_name = options.server_name;
    wanted.dead_peer = kDeadPeer;
    wanted.deadline = io::now() + options.timeout;
    auto opened = [vault, name = options.peer,
                   handler = std::move(handler)](Result<std::unique_ptr<tunnel::Tunnel>> result) mutable {
        error_code error;
        Channel channel;
        if (result) {
            tunnel::Tunnel& tunnel = **result;
            (void)tunnel.outlive(vault.impl(), nullptr);
            channel = Channel(
                std::make_shared<Channel::Impl>(vault, tunnel.messages(), tunnel.peer(), std::move(name)));
        } else {
            error = meaning_of(result.error());
        }
        const auto executor =
            boost::asio::get_associated_executor(handler, vault.impl()->context.get_executor());
        boost::asio::dispatch(executor,
                              [handler = std::move(handler), error, channel = std::move(channel)]() mutable {
                                  std::move(handler)(error, std::move(channel));
                              });
    };
    with.opener_of(options.wire).open(std::move(wanted), std::move(opened), nullptr);
}

}  // namespace curvegate
