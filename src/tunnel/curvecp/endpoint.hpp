#pragma once

#include "guard/admission.hpp"
#include "guard/counters.hpp"
#include "guard/hello_queue.hpp"
#include "handshake/curvecp/server.hpp"
#include "io/udp_socket.hpp"
#include "tunnel/curvecp/tunnel.hpp"
#include "tunnel/tools.hpp"

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace curvegate::tunnel::curvecp {

class ServerTunnel;

/// What an endpoint asks of whoever owns it, for one client.
class Guest {
  public:
    virtual ~Guest() = default;
    /// Asks whether this key may use the service of that name. Returns nullopt if it may, and otherwise the
    /// reason for the log.
    [[nodiscard]] virtual std::optional<std::string> authorise(const crypto::PublicKey& client,
                                                               const wire::curvecp::ServerName& name) = 0;
    /// The same client shows itself at another address: is it still welcome there?
    [[nodiscard]] virtual bool may_come_from(const IpAddress& source) = 0;
    [[nodiscard]] virtual Duration dead_peer() const = 0;
    virtual void established(tunnel::TunnelHandle tunnel, vault::KeySlot server_key) = 0;
    /// For the log.
    virtual void refused(const Error& why) = 0;
};

/// One worker's part of a CurveCP server's port (PROTOCOL 7): a socket for sessions, one for Hellos, and the
/// table of connections by C'. Whatever is wrong with a packet, the answer is silence.
class CurvecpEndpoint {
  public:
    struct Options {
        wire::curvecp::HostExtension extension;
        io::AddressForm addresses = io::AddressForm::full;
    };
    using MakeGuest = std::function<std::shared_ptr<Guest>(const Path& from)>;

    CurvecpEndpoint(asio::io_context& context, os::UniqueFd sessions, os::UniqueFd hellos,
                    const Options& options, const tunnel::HandshakeTools& tools,
                    std::shared_ptr<guard::Admission> admission, std::shared_ptr<guard::Counters> counters,
                    MakeGuest make_guest);
    ~CurvecpEndpoint();
    void start();
    /// Of those who come from now on; connections that stand keep theirs.
    void set_extension(const wire::curvecp::HostExtension& extension) noexcept {
        options_.extension = extension;
    }
    /// No new connections; those that stand go on.
    void stop_accepting();
    /// Ends all connections, those too that only wait for their last acknowledgment. Call once, before this
    /// goes while its worker runs on.
    void close();

  private:
    friend class ServerTunnel;
    struct Packet;
    struct Newcomer;
    struct Hello;
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
    void answer(Hello& place, const guard::HelloQueue::Hello& waiting) const;
    void establish(const std::shared_ptr<Newcomer>& newcomer,
                   handshake::curvecp::action::Established& established);
    void drop(const Error& why, const Path& from);
    [[nodiscard]] crypto::PacketNumber first_number() const;
    [[nodiscard]] std::size_t send(const Path& to, Bytes train, std::size_t segment);

    asio::io_context& context_;
    io::UdpSocket sessions_;
    io::UdpSocket hellos_;
    Options options_;
    tunnel::HandshakeTools tools_;
    std::shared_ptr<guard::Admission> admission_;
    std::shared_ptr<guard::Counters> counters_;
    MakeGuest make_guest_;
    guard::HelloQueue queue_;
    asio::steady_timer hello_timer_;
    asio::steady_timer read_timer_;
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
