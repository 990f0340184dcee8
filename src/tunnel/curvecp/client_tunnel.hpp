#pragma once

#include "handshake/curvecp/client.hpp"
#include "handshake/curvecp/initiates.hpp"
#include "io/clock.hpp"
#include "tunnel/curvecp/tunnel.hpp"
#include "tunnel/runner.hpp"
#include "tunnel/tools.hpp"

#include <functional>

namespace curvegate::tunnel::curvecp {

/// A client's end of a CurveCP connection, from its first Hello to the end, on a socket of its own: a
/// server's packets name no connection (PROTOCOL 7.1). The socket is bound to no address of ours, so that the
/// kernel's routes decide where packets leave from, after a change of network too.
class ClientTunnel final : public CurvecpTunnel {
  public:
    struct Options {
        handshake::curvecp::Destination destination;
        IpEndpoint server;
        Instant limit;  ///< of the handshake, up to the server's first Message
        Duration dead_peer = std::chrono::seconds(60);
    };
    /// `done` is called once, when messages may go (the server has not confirmed the session then), or with
    /// the reason why they never will; never from within start(), but perhaps from within stop().
    using DoneFn = std::move_only_function<void(Result<>)>;
    ClientTunnel(asio::io_context& context, std::unique_ptr<io::DatagramSocket> socket,
                 const tunnel::HandshakeTools& tools, const Options& options, DoneFn done);
    void start();
    /// Gives up; done() gets handshake stopped if it was not called yet.
    void stop();
    [[nodiscard]] bool has_cookie() const noexcept;

  private:
    [[nodiscard]] std::optional<Envelope> envelope() override;
    [[nodiscard]] Result<> seal(MutableBytes packet) override;
    [[nodiscard]] std::size_t transmit(Bytes train, std::size_t segment) override;
    [[nodiscard]] Deadline own_deadline() const override;
    void on_own_deadline(Instant at) override;
    void on_over() override;

    // What tunnel::Runner asks.
    friend class tunnel::Runner<handshake::curvecp::Client, ClientTunnel>;
    /// Keeps us until the vault answers; true as long as that is wanted.
    struct Hold {
        std::shared_ptr<ClientTunnel> self;
        explicit operator bool() const noexcept { return !self->is_over(); }
    };
    [[nodiscard]] const tunnel::HandshakeTools& tools() const noexcept { return introducing_->tools; }
    [[nodiscard]] Instant now() const { return io::now(); }
    [[nodiscard]] Hold hold();
    [[nodiscard]] handshake::curvecp::Event start(crypto::EphemeralKeyPair keys) const;
    void on(const handshake::curvecp::action::Send& send);
    void on(handshake::curvecp::action::Vouched& vouched);
    [[nodiscard]] std::optional<handshake::curvecp::Event> on(const handshake::curvecp::action::AskAfresh&);
    void on(const handshake::curvecp::action::Close& close);
    /// Nothing else comes of a client, and what it drops nobody counts.
    template <class Other>
    void on(const Other&) {}
    void settled() { arm_timer(); }

    void begin();
    void feed(handshake::curvecp::Event&& event);
    void wait_socket();
    void on_packet(const Path& from, MutableBytes packet);
    void finish(Result<> result);

    /// What is needed until the server is heard, and not kept longer.
    struct Introducing {
        Introducing(ClientTunnel& tunnel, const tunnel::HandshakeTools& with, const Options& options,
                    DoneFn then)
            : tools(with),
              runner(tunnel, options.destination, with.timeouts, options.limit),
              done(std::move(then)) {}

        tunnel::HandshakeTools tools;
        tunnel::Runner<handshake::curvecp::Client, ClientTunnel> runner;
        DoneFn done;
        std::optional<session::curvecp::Introduction> introduction;  // goes with every packet
        handshake::curvecp::InitiateSchedule initiates;
    };

    IpEndpoint server_;
    std::unique_ptr<io::DatagramSocket> socket_;
    std::unique_ptr<Introducing> introducing_;
    std::optional<session::curvecp::Session> session_;
    bool heard_ = false;  // something of this batch was for us
    bool waits_room_ = false;
};

}  // namespace curvegate::tunnel::curvecp
