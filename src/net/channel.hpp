#pragma once

#include "curvegate/channel.hpp"
#include "net/admission.hpp"
#include "net/handshake.hpp"
#include "net/listener.hpp"
#include "net/mailbox.hpp"
#include "net/vault_handle.hpp"

#include <deque>
#include <vector>

namespace curvegate {

/// The actor behind a channel handle. Reads only while somebody waits and nothing is queued: a program that
/// does not receive stops its peer by TCP's window.
struct Channel::Impl : std::enable_shared_from_this<Channel::Impl> {
    using SendHandler = boost::asio::any_completion_handler<void(error_code)>;

    Impl(Vault vault, net::Established established, std::string name);

    std::optional<net::SessionLimits::Slot> slot;  ///< accepted channels: counts as a session of its peer

    void send(Bytes message, SendHandler handler);
    void receive(std::optional<Duration> timeout, net::Mailbox<Message>::Handler handler);
    /// Ends it: what waits gets `why`; messages that came before are still delivered if `deliver`.
    void close(error_code why, bool deliver);

    PeerKey peer;
    std::string peer_name;
    bool open = true;

  private:
    struct Outgoing {
        std::vector<Byte> frame;
        SendHandler handler;
    };
    void write_next();
    void read();
    void on_bytes();
    void fail_sends();
    void complete(SendHandler handler, error_code error);

    Vault vault_;  // owns the pool that the session's key lives in: destroyed last
    net::Stream stream_;
    session::curve_tun::Session session_;
    std::shared_ptr<net::Mailbox<Message>> inbox_;
    std::deque<Outgoing> outbox_;
    std::vector<Byte> incoming_;
    std::size_t have_ = 0;
    bool reading_ = false;
    bool send_broken_ = false;  // the peer is gone; what it sent before is still received
};

struct Listener::Impl : std::enable_shared_from_this<Listener::Impl> {
    Impl(Vault vault, ListenOptions options);
    [[nodiscard]] Result<> listen();
    void accept(net::Mailbox<Channel>::Handler handler) { accepted_->wait(std::nullopt, std::move(handler)); }
    void close();
    std::uint16_t port = 0;

  private:
    void shake_hands(net::Stream stream, const IpAddress& source);

    Vault vault_;
    ListenOptions options_;
    registry::AllowList allow_;
    std::shared_ptr<net::Admission> admission_;
    std::shared_ptr<net::SessionLimits> sessions_;
    std::shared_ptr<net::Mailbox<Channel>> accepted_;
    std::unique_ptr<net::Listener> listener_;
};

}  // namespace curvegate
