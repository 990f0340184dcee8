#pragma once

#include "handshake/curvecp/path.hpp"
#include "tunnel/curvecp/endpoint.hpp"

namespace curvegate::tunnel::curvecp {

/// A server's end of a connection: it shares its endpoint's socket, and follows a client whose address
/// changes (PROTOCOL 7.7).
class ServerTunnel final : public CurvecpTunnel {
  public:
    ServerTunnel(CurvecpEndpoint& endpoint, session::curvecp::Session session, const Path& path,
                 std::shared_ptr<Guest> guest);
    ~ServerTunnel() override { leave(); }
    ServerTunnel(const ServerTunnel&) = delete;
    ServerTunnel& operator=(const ServerTunnel&) = delete;

    /// Is that the server's extension of this connection?
    [[nodiscard]] bool has(const wire::curvecp::HostExtension& server) const noexcept {
        return server == session_.extensions().server;
    }
    /// A Message, or an Initiate that was repeated. What does not open changes nothing.
    [[nodiscard]] Result<> receive(const Path& from, const wire::curvecp::ClientMessageHeader& header,
                                   MutableBytes packet);
    [[nodiscard]] Result<> receive(const Path& from, const wire::curvecp::InitiateHeader& header,
                                   MutableBytes packet);
    /// The message that came with the Initiate that made this connection. If it wants no answer of its own
    /// the client gets one all the same: it may wait for one before it goes on (PROTOCOL 7.5).
    void receive_first(Bytes bytes);
    /// The endpoint is going away.
    void forget_endpoint() { endpoint_ = nullptr; }

    bool touched = false;  ///< the endpoint's: it is in the list of this batch

  private:
    [[nodiscard]] std::optional<Envelope> envelope() override;
    [[nodiscard]] Result<> seal(MutableBytes packet) override { return session_.seal_message(packet); }
    [[nodiscard]] std::size_t transmit(Bytes train, std::size_t segment) override;
    [[nodiscard]] std::size_t allowance() override;
    [[nodiscard]] Deadline own_deadline() const override { return path_.next_deadline(); }
    void on_own_deadline(Instant at) override;
    void on_over() override { leave(); }
    void leave();

    [[nodiscard]] Result<> take(const Path& from, const session::curvecp::Opened& opened,
                                const wire::curvecp::Extensions& extensions, std::size_t packet_size);
    void challenge(const std::optional<handshake::curvecp::Challenge>& challenge);

    CurvecpEndpoint* endpoint_;
    session::curvecp::Session session_;
    handshake::curvecp::PathValidator path_;
    std::shared_ptr<Guest> guest_;
};

}  // namespace curvegate::tunnel::curvecp
