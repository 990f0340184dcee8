#pragma once

#include "channel/vault_handle.hpp"
#include "curvegate/channel.hpp"
#include "guard/admission.hpp"
#include "io/listen.hpp"
#include "io/listener.hpp"
#include "io/mailbox.hpp"
#include "tunnel/wire.hpp"

#include <deque>
#include <vector>

namespace curvegate {

/// The actor behind a channel handle, on any wire. Reads only while somebody waits and nothing is
/// queued: a program that does not receive stops its peer by the tunnel's window.
struct Channel::Impl : std::enable_shared_from_this<Channel::Impl> {
    using SendHandler = boost::asio::any_completion_handler<void(error_code)>;

    /// A peer that acknowledges nothing for `dead_peer` is given up.
    Impl(Vault vault, std::unique_ptr<tunnel::MessagePipe> pipe, const crypto::PublicKey& key,
         std::string name, Duration dead_peer = service::Limits{}.dead_peer);

    /// Accepted channels: its place as a session of its peer, which its tunnel may hold longer.
    std::shared_ptr<const guard::SessionLimits::Slot> slot;

    void send(Bytes message, SendHandler handler);
    void receive(std::optional<Duration> timeout, io::Mailbox<Message>::Handler handler);
    /// Messages that came and were not received yet.
    enum class Unread { deliver, drop };
    /// Ends it: what waits gets `why`.
    void close(error_code why, Unread unread);

    PeerKey peer;
    std::string peer_name;
    bool open = true;

  private:
    struct Outgoing {
        Message message;
        SendHandler handler;
    };
    [[nodiscard]] Outgoing take_first();
    bool hand_over(Bytes message, SendHandler handler);
    void on_drained();
    void read();
    bool on_message(Bytes message);
    void watch();
    void fail_sends();
    void complete(SendHandler handler, error_code error);

    Vault vault_;  // owns the pool that the session's key lives in: destroyed last
    std::unique_ptr<tunnel::MessagePipe> pipe_;
    std::shared_ptr<io::Mailbox<Message>> inbox_;
    // The first one's message is in the pipe, and waits for the network. Bounded by kMaxWaitingSends, and by
    // kMaxWaitingBytes in all.
    std::deque<Outgoing> outbox_;
    std::size_t waiting_bytes_ = 0;
    Duration dead_peer_;
    io::Timer watch_;
    bool watching_ = false;
};

struct Listener::Impl : std::enable_shared_from_this<Listener::Impl> {
    Impl(Vault vault, ListenOptions options);
    [[nodiscard]] Result<> listen();
    void accept(io::Mailbox<Channel>::Handler handler) { accepted_->wait(std::nullopt, std::move(handler)); }
    void close();
    std::uint16_t port = 0;

  private:
    class Newcomer;
    [[nodiscard]] Result<> listen_tcp(const io::ListenPlace& place);
    [[nodiscard]] Result<> listen_udp(const io::ListenPlace& place);
    [[nodiscard]] tunnel::Environment lent();
    [[nodiscard]] registry::Decision judge(const crypto::PublicKey& key, const IpAddress& source) const;

    Vault vault_;
    ListenOptions options_;
    const tunnel::Wire& wire_;
    registry::AllowList allow_;
    std::shared_ptr<guard::Admission> admission_;
    std::shared_ptr<guard::Counters> counters_ = std::make_shared<guard::Counters>();
    std::shared_ptr<guard::SessionLimits> sessions_;
    std::shared_ptr<io::Mailbox<Channel>> accepted_;
    std::unique_ptr<io::Listener> listener_;
    std::shared_ptr<tunnel::Endpoint> endpoint_;  // its channels keep it too
};

}  // namespace curvegate
