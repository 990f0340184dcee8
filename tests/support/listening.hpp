#pragma once

#include "base/scoped_ip.hpp"
#include "io/dial.hpp"
#include "os/socket.hpp"

#include <sys/socket.h>

#include <array>
#include <string>

namespace curvegate::test {

inline ScopedIp ip(const std::string& text) {
    return *IpAddress::parse(text);
}

/// A listening socket at an address of loopback.
class Listening {
  public:
    explicit Listening(const std::string& address, std::uint16_t port = 0, int backlog = 16)
        : acceptor_(context_, io::tcp::v4()) {
        acceptor_.set_option(io::tcp::acceptor::reuse_address(true));
        acceptor_.bind(io::endpoint_of(ip(address), port));
        acceptor_.listen(backlog);
    }
    [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
    [[nodiscard]] io::tcp::endpoint address() const { return acceptor_.local_endpoint(); }

  private:
    asio::io_context context_;
    io::tcp::acceptor acceptor_;
};

/// An address that does not answer: the queue of its listener is full, so the kernel drops what comes.
class Silent {
  public:
    explicit Silent(const std::string& address) : listening_(address, 0, 0) {
        for (auto& filler : fillers_) {
            filler = os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
            const auto to = listening_.address();
            (void)::connect(filler.get(), to.data(), static_cast<socklen_t>(to.size()));
        }
    }
    [[nodiscard]] std::uint16_t port() const { return listening_.port(); }

  private:
    Listening listening_;
    std::array<os::UniqueFd, 4> fillers_;
};

}  // namespace curvegate::test
