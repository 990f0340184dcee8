#pragma once

#include "forward/forwarding.hpp"
#include "guard/counters.hpp"
#include "tunnel/datagram_pipe.hpp"

#include <functional>
#include <memory>
#include <optional>

namespace curvegate::forward {

/// One application's datagrams in a tunnel (PROTOCOL 10): what goes each way, and what is dropped, is
/// counted.
class CountedDatagrams {
  public:
    /// A datagram for the application; false: it was lost.
    using DeliverFn = std::function<bool(Bytes datagram)>;
    using EndFn = std::function<void(Ending)>;

    CountedDatagrams(std::unique_ptr<tunnel::DatagramPipe> pipe, guard::Counters& counters);
    /// `ended` is called once, if the tunnel ends by itself, and may destroy this; both may be called from
    /// within.
    void start(DeliverFn deliver, EndFn ended);
    /// Sends a datagram of the application, or drops it. It goes out with flush() at the latest: call that
    /// after each batch.
    void send(Bytes datagram);
    void flush() { pipe_->flush(); }

    /// Is it over by one of the limits, and by which?
    [[nodiscard]] std::optional<Ending> overdue(Instant at, const ForwarderLimits& limits) const;
    /// What it did, for the log.
    [[nodiscard]] ForwarderSummary summary(Ending ending) const;
    [[nodiscard]] Traffic traffic() const noexcept { return {bytes_up_, bytes_down_}; }
    [[nodiscard]] Instant started() const noexcept { return started_; }

  private:
    void on_datagram(Bytes datagram);

    std::unique_ptr<tunnel::DatagramPipe> pipe_;
    guard::Counters& counters_;
    DeliverFn deliver_;
    std::uint64_t bytes_up_ = 0;
    std::uint64_t bytes_down_ = 0;
    Instant started_;
    Instant used_;
};

}  // namespace curvegate::forward
