#pragma once

#include "base/time.hpp"
#include "os/socket.hpp"
#include "vault/control.hpp"
#include "vault/nonce_counter.hpp"
#include "vault/queue.hpp"
#include "vault/rate_limit.hpp"
#include "vault/service.hpp"

#include <poll.h>

#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace curvegate::vault {

/// The vault's sockets: one thread, poll(2). A turn reads what waits on all connections, answers all prompt
/// requests and a few Hellos, sends, and only then reserves numbers. A peer that does not read its replies is
/// not read from, and after a while is let go.
class Server {
  public:
    using Say = std::function<void(std::string_view line)>;

    /// `service` and the counters must outlive the server. `say` writes one line to the log.
    Server(Service& service, const std::vector<NonceCounter*>& counters, Say say);

    /// A connected SOCK_SEQPACKET socket.
    void add(os::UniqueFd connection);
    /// Serves new connections too, from processes of these uids only (SO_PEERCRED).
    void accept_from(os::UniqueFd listener, std::vector<unsigned> uids);
    /// Serves the control socket as well; `door` must outlive the server.
    void control_with(ControlDoor& door) noexcept { door_ = &door; }
    /// The slots of keys that are compromised: each new connection is told, since the front behind it may
    /// have missed it.
    void greet_with(std::function<std::vector<KeySlot>()> dropped) { dropped_ = std::move(dropped); }
    /// Tells all connections that this key was dropped.
    void announce(KeySlot dropped);
    void add_counter(NonceCounter& counter) {
        counters_.push_back({&counter, std::nullopt, kFirstRetry, false});
    }
    void drop_counter(const NonceCounter& counter);
    /// run() ends when `fd` becomes readable or its other end closes.
    void end_with(int fd) noexcept { end_fd_ = fd; }

    void run();
    /// The two halves of a turn, for tests: waits (at most `timeout` milliseconds, -1: without end; less if
    /// there is work left) and tells whether to go on; then serves at these times.
    [[nodiscard]] bool wait(int timeout);
    void serve(Instant now, WallTime wall);
    [[nodiscard]] std::size_t connections() const noexcept { return connections_.size(); }

    static constexpr std::size_t kMostConnections = 256;
    static constexpr std::size_t kHellosATurn = 16;
    static constexpr Duration kStuckAfter = std::chrono::seconds(30);
    static constexpr Duration kFirstRetry = std::chrono::seconds(1);  ///< of a counter that cannot be written

  private:
    struct Connection {
        os::UniqueFd fd;
        RequestQueue queue;
        std::deque<Message>
            replies;  // no longer than the queue can make it: nothing is read while it holds any
        Deadline stuck_until;
        bool ended = false;
    };
    struct Counter {
        NonceCounter* counter;
        Deadline retry_at;
        Duration delay{};
        bool announced = false;
    };

    [[nodiscard]] int patience() const;
    void accept_all(Instant now);
    void read_all(Connection& connection, Instant now);
    void end(Connection& connection, Instant now, std::string_view why);
    void answer(Connection& connection, const Request& request, Instant now, WallTime wall);
    void answer_hellos(Instant now, WallTime wall);
    void send(Connection& connection, const Reply& reply);
    void flush(Connection& connection, Instant now);
    void tend(Counter& counter, Instant now);
    void say_rarely(Instant now, std::string_view line);

    Service* service_;
    Say say_;
    std::vector<Counter> counters_;
    std::vector<std::unique_ptr<Connection>> connections_;
    os::UniqueFd listener_;
    std::vector<unsigned> uids_;
    Deadline accept_again_;
    int end_fd_ = -1;
    bool hellos_left_ = false;
    std::size_t first_hello_ = 0;  // the connection whose Hello is answered first, so that each has its turn
    ControlDoor* door_ = nullptr;
    std::function<std::vector<KeySlot>()> dropped_;
    std::vector<pollfd> polled_;  // end, listener, one for each connection, then the control door's
    std::size_t first_control_ = 0;
    RateLimit lines_{1, 20};
};

}  // namespace curvegate::vault
