#pragma once

#include "guard/hello_queue.hpp"
#include "handshake/curvecp/server.hpp"
#include "io/asio.hpp"
#include "io/datagram_socket.hpp"
#include "tunnel/curvecp/tunnel.hpp"
#include "tunnel/wire.hpp"

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

namespace curvegate::tunnel::curvecp {

class ServerTunnel;

/// One worker's part of a CurveCP server's port (PROTOCOL 7): a socket for sessions, one for Hellos, and the
/// table of connections by C'. Whatever is wrong with a packet, the answer is silence.
class CurvecpEndpoint final : public Endpoint {
  public:
    CurvecpEndpoint(const Environment& lent, std::unique_ptr<io::DatagramSocket> sessions,
                    std::unique_ptr<io::DatagramSocket> hellos, MakeGuest make_guest);
    ~CurvecpEndpoint() override;
    CurvecpEndpoint(const CurvecpEndpoint&) = delete;
    CurvecpEndpoint& operator=(const CurvecpEndpoint&) = delete;

    void start() override;
    void set_options(const service::WireOptions& options) override {
        extension_.bytes = options.server_extension;
    }
    void stop_accepting() override;
    void close() override;
    /// How many it knows, with those that only wait for their last acknowledgment.
    [[nodiscard]] std::size_t connections() const noexcept { return tunnels_.size(); }

  private:
    friend class ServerTunnel;
    struct Packet;
    struct Newcomer;
    struct Hello;
    using HelloQueue = guard::HelloQueue<wire::curvecp::SealedHello>;
    struct ShortKeyHash {
        ByteArray<16> key;
        std::size_t operator()(const wire::curvecp::ClientShort& client_short) const noexcept;
    };
    template <class Value>
    using ByShortKey = std::unordered_map<wire::curvecp::ClientShort, Value, ShortKeyHash>;

    void wait_sessions();
    void wait_hellos();
    void wait_room();
    void on_packet(const Path& from, MutableBytes packet);
    void on_initiate(const Path& from, const wire::curvecp::InitiateHeader& header, MutableBytes packet);
    void on_hello(const Path& from, MutableBytes packet);
    void serve_hellos();
    void count_dropped_hellos();
    void answer(Hello& place, const HelloQueue::Hello& waiting) const;
    void establish(const std::shared_ptr<Newcomer>& newcomer,
                   handshake::curvecp::action::Established& established);
    void drop(const Error& why, const Path& from);
    [[nodiscard]] std::size_t send(const Path& to, Bytes train, std::size_t segment);

    asio::io_context& context_;
    std::unique_ptr<io::DatagramSocket> sessions_;
    std::unique_ptr<io::DatagramSocket> hellos_;
    wire::curvecp::HostExtension extension_;
    io::AddressForm addresses_;
    tunnel::HandshakeTools tools_;
    std::shared_ptr<guard::Admission> admission_;
    std::shared_ptr<guard::Counters> counters_;
    MakeGuest make_guest_;
    HelloQueue queue_;
    std::uint64_t dropped_hellos_ = 0;  // of the queue's, that are counted
    io::Timer hello_timer_;
    io::Timer read_timer_;
    // As many as the vault client takes at once; made once, so that a Hello allocates nothing here.
    std::vector<std::unique_ptr<Hello>> answering_;  // all there from the start
    bool serving_ = false;
    ByShortKey<std::weak_ptr<ServerTunnel>> tunnels_;  // each takes itself out when it is over
    ByShortKey<std::shared_ptr<Newcomer>> newcomers_;
    std::vector<std::shared_ptr<ServerTunnel>> touched_;  // in this batch
    std::vector<std::shared_ptr<ServerTunnel>> blocked_;  // wait for room in the socket
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    bool waits_room_ = false;
    bool accepting_ = true;
};

}  // namespace curvegate::tunnel::curvecp
