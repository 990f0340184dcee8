#pragma once

#include "crypto/keys.hpp"
#include "forward/counted_datagrams.hpp"
#include "io/cancellation.hpp"
#include "io/udp_socket.hpp"
#include "tunnel/tunnel.hpp"

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace curvegate::forward {

/// The client's end of a service whose plain side is udp: a listening socket, and a flow for each address and
/// port that datagrams come from, with a tunnel of its own (PROTOCOL 10). Over `flows` a tunnel that still
/// tells its end, or else the least recently used flow, makes room. One thread.
class Flows {
  public:
    /// Kept for a flow while its tunnel is dialled; more is dropped.
    static constexpr std::size_t kMostQueued = 64;
    static constexpr std::size_t kMostQueuedBytes = std::size_t{64} * 1024;

    struct Limits {
        std::size_t flows = service::Limits{}.flows;
        Duration idle = service::Limits{}.flow_idle;  ///< without a datagram in either direction
        Duration dead_peer = service::Limits{}.dead_peer;
        std::optional<Duration> max_session;
    };
    /// A flow's tunnel, and who is at its other end.
    struct Tunnel {
        std::unique_ptr<tunnel::DatagramPipe> pipe;
        std::string peer;
        std::optional<crypto::PublicKey> key;
        std::string target;                      ///< empty: there is only one
        std::uint64_t session = 0;               ///< its number
        std::weak_ptr<tunnel::Remains> remains;  ///< that may live on when the pipe is gone
    };
    /// Who has a flow.
    struct Who {
        std::string source;  ///< as it may be shown
        std::string peer;
        std::optional<crypto::PublicKey> key;
        std::string target;
        std::uint64_t session = 0;
    };
    using DialedFn = std::move_only_function<void(Result<Tunnel>)>;
    /// Dials a tunnel for the flow from `source` (as it may be shown) and calls `done` once, never from
    /// within. After an error the flow is forgotten; its next datagram dials anew. A flow that ends while it
    /// is dialled cancels that: then nothing of the dial may stay open, and nobody has come.
    using DialFn = std::function<void(const std::string& source, const io::CancellationPtr& cancellation,
                                      DialedFn done)>;
    /// A flow has its tunnel.
    using BeganFn = std::function<void()>;
    /// A flow that began is over; it is not counted in size() any more.
    using EndedFn = std::function<void(const Who& who, const ForwarderSummary& summary)>;

    /// `listening` is a bound UDP socket. `counters` outlives it. The handlers may not destroy this.
    Flows(asio::io_context& context, os::UniqueFd listening, const Limits& limits, guard::Counters& counters,
          DialFn dial, BeganFn began, EndedFn ended, io::AddressForm form = io::AddressForm::full);
    ~Flows();
    Flows(const Flows&) = delete;
    Flows& operator=(const Flows&) = delete;

    void start();
    /// From here on datagrams of an unknown source are dropped; flows that stand go on.
    void stop_accepting() noexcept { accepting_ = false; }
    /// Ends all flows at once; `ended` is called from within.
    void cut(Ending why);
    /// The same for the flows that have their tunnel and of which `which` says so. Gives how many.
    std::size_t cut_if(const std::function<bool(const Who&)>& which, Ending why);
    /// The same for all flows. Gives how many had their tunnel.
    std::size_t cut_all(Ending why);
    /// Shows each flow that has its tunnel.
    using ShowFn = std::function<void(const Who& who, Duration lasted, const Traffic& traffic)>;
    void show(Instant at, const ShowFn& show) const;
    /// For flows to come.
    void set_limits(const Limits& limits) noexcept { limits_ = limits; }
    /// Ends what is idle, too old, or has a dead peer; the worker calls it every 5 s, or
    /// more often if a limit is short.
    void sweep(Instant at);
    [[nodiscard]] Duration shortest_limit() const {
        return std::min({limits_.idle, limits_.dead_peer, limits_.max_session.value_or(Duration::max())});
    }
    /// Flows, those whose tunnel is being dialled too, and tunnels that still say goodbye.
    [[nodiscard]] std::size_t held();
    /// Flows, those whose tunnel is being dialled too.
    [[nodiscard]] std::size_t size() const noexcept { return table_.size(); }

  private:
    struct Flow;
    using FlowPtr = std::shared_ptr<Flow>;
    struct EndpointHash {
        std::size_t operator()(const IpEndpoint& endpoint) const noexcept;
    };

    void wait_readable();
    void on_readable();
    void on_datagram(const Path& from, Bytes datagram);
    [[nodiscard]] FlowPtr flow_of(const Path& from);
    [[nodiscard]] FlowPtr open(const Path& from);
    void on_dialed(const FlowPtr& flow, Result<Tunnel> result);
    void queue(Flow& flow, Bytes datagram);
    void use(Flow& flow);
    void end(const FlowPtr& ending, Ending why);
    void make_room();

    io::UdpSocket socket_;
    Limits limits_;
    guard::Counters& counters_;
    DialFn dial_;
    BeganFn began_;
    EndedFn ended_;
    io::AddressForm form_;
    std::list<FlowPtr> by_use_;  // the most recently used first
    std::unordered_map<IpEndpoint, FlowPtr, EndpointHash> table_;
    std::vector<FlowPtr> touched_;                       // sent to in this batch
    std::list<std::weak_ptr<tunnel::Remains>> leaving_;  // of flows that have ended, the oldest first
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool accepting_ = true;
};

}  // namespace curvegate::forward
