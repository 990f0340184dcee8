#pragma once

#include "base/time.hpp"
#include "os/socket.hpp"
#include "vault/locked_buffer.hpp"
#include "vault/protocol/control.hpp"
#include "vault/rate_limit.hpp"

#include <poll.h>

#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace curvegate::vault {

/// The vault's control socket: answers root and the vault's own user, one request at a time. Lives in the
/// server's poll loop. One process has few connections at once, so that a front that was taken over cannot
/// keep `curvegate rotate` out.
class ControlDoor {
  public:
    using Say = std::function<void(std::string_view line)>;
    using Handler =
        std::function<ControlReply(const ControlRequest&, std::vector<os::UniqueFd> handed, Instant now)>;

    /// `listener`: non-blocking, SOCK_SEQPACKET, mode 0600.
    ControlDoor(os::UniqueFd listener, Handler handler, Say say);

    static constexpr std::size_t kMostConnections = 8;
    static constexpr std::size_t kMostOfAProcess = 2;
    static constexpr Duration kIdle = std::chrono::seconds(10);

    /// What serve() wants to hear of, in this order.
    void add_polls(std::vector<pollfd>& polls) const;
    /// There is a deadline to look at.
    [[nodiscard]] bool has_deadline() const noexcept { return !connections_.empty(); }
    /// `polled`: what add_polls() added, after poll(2); empty if nothing is known.
    void serve(std::span<const pollfd> polled, Instant now);
    [[nodiscard]] std::size_t connections() const noexcept { return connections_.size(); }

  private:
    struct Connection {
        os::UniqueFd fd;
        int pid;
        Instant heard;
        bool ended = false;
    };
    void accept_all(Instant now);
    void admit(os::UniqueFd fd, Instant now);
    void read(Connection& connection, Instant now);
    void end(Connection& connection, Instant now, std::string_view why);

    os::UniqueFd listener_;
    Handler handler_;
    Say say_;
    LockedBuffer message_{kLargestControlRequest};  // may hold a passphrase
    std::vector<Connection> connections_;
    RateLimit lines_{1, 20};
};

}  // namespace curvegate::vault
