#pragma once

#include "daemon/channel.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"

#include <boost/asio/generic/seq_packet_protocol.hpp>

#include <functional>

namespace curvegate::daemon::front {

/// The front's end of the channel to the parent.
class ParentLink {
  public:
    /// A message, and the descriptor that came along; none came, or it found no room.
    using HearFn = std::function<void(ToFront message, os::UniqueFd fd)>;

    ParentLink(asio::io_context& context, os::UniqueFd channel);

    /// Calls `hear` for each message from now on, in the loop of `context`, and `gone` when the parent is.
    void listen(HearFn hear, std::function<void()> gone);
    void send(const ToParent& message);

  private:
    void wait();
    void read();

    asio::generic::seq_packet_protocol::socket channel_;
    HearFn hear_;
    std::function<void()> gone_;
};

}  // namespace curvegate::daemon::front
