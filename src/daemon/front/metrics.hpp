#pragma once

#include "daemon/front/http.hpp"
#include "daemon/front/local_client.hpp"
#include "daemon/front/shared_page.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"

#include <functional>
#include <memory>
#include <string>

namespace curvegate::daemon::front {

/// The metrics page (docs/CONTROL.md) on a unix socket or a loopback port: GET and HEAD of /metrics, one
/// request a connection.
class MetricsServer {
  public:
    static constexpr std::size_t kMostClients = 16;

    /// `listening` is a stream socket; what comes in by it is judged as `door` says.
    MetricsServer(asio::io_context& context, os::UniqueFd listening, HttpDoor door, SharedPage::MakeFn page);

  private:
    class Client;
    using Protocol = asio::generic::stream_protocol;

    void wait();
    void accept_all();

    asio::io_context& context_;
    Protocol::socket listening_;
    io::Timer timer_;
    HttpDoor door_;
    SharedPage page_;
    LocalClients clients_{kMostClients};
};

}  // namespace curvegate::daemon::front
