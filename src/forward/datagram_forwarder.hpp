#pragma once

#include "forward/counted_datagrams.hpp"
#include "io/udp_socket.hpp"

#include <memory>
#include <optional>

namespace curvegate::forward {

/// Carries datagrams between a connected UDP socket and a tunnel (PROTOCOL 10): the server's end of one flow.
/// It ends with its tunnel or by a limit of time; a datagram socket has no end.
class DatagramForwarder final : public ForwarderBase, public std::enable_shared_from_this<DatagramForwarder> {
  public:
    /// `plain` is connected to the application (io::connect_udp). `limits.drain` means nothing here.
    /// `counters` outlives it.
    DatagramForwarder(asio::io_context& context, os::UniqueFd plain,
                      std::unique_ptr<tunnel::DatagramPipe> pipe, const ForwarderLimits& limits,
                      guard::Counters& counters);
    void start(DoneFn done) override;
    void stop(Ending why) override;
    void sweep(Instant at) override;
    [[nodiscard]] Traffic traffic() const override;

  private:
    void wait_plain();
    void on_plain_readable();
    void finish(Ending why);

    asio::io_context& context_;
    io::UdpSocket plain_;
    std::optional<CountedDatagrams> datagrams_;
    ForwarderLimits limits_;
    DoneFn done_;
};

}  // namespace curvegate::forward
