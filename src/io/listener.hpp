#pragma once

#include "base/time.hpp"
#include "io/asio.hpp"
#include "os/socket.hpp"

#include <functional>
#include <string>

namespace curvegate::io {

/// A listening TCP or unix socket: accepts until stopped, and waits a little when descriptors or memory are
/// short instead of spinning. Those that are kept back from sessions (os/descriptors.hpp) are no room for it.
class Listener {
  public:
    /// `source` is the peer's address as it may be shown ("unix" for a unix socket), `address` for budgets
    /// (zeros there).
    using AcceptFn = std::function<void(Stream, std::string source, const IpAddress& address)>;

    Listener(asio::io_context& context, os::UniqueFd listening, std::string service, AcceptFn accept,
             AddressForm form = AddressForm::full);
    ~Listener();
    void start();
    void stop();
    /// For the log.
    void set_service(std::string name) { service_ = std::move(name); }

  private:
    void wait();
    void accept_all();
    void pause();

    asio::io_context& context_;
    asio::generic::stream_protocol::socket socket_;  // only waited on; accept4() does the rest
    io::Timer timer_;
    std::string service_;
    AcceptFn accept_;
    AddressForm form_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace curvegate::io
