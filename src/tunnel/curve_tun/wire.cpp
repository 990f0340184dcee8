#include "tunnel/curve_tun/wire.hpp"

#include "io/clock.hpp"
#include "io/proxy_header.hpp"
#include "io/socket_options.hpp"
#include "tunnel/curve_tun/bytes.hpp"
#include "tunnel/curve_tun/dial.hpp"
#include "tunnel/curve_tun/handshake.hpp"
#include "tunnel/curve_tun/messages.hpp"

namespace curvegate::tunnel::curve_tun {
namespace {

class TcpTunnel final : public Tunnel {
  public:
    TcpTunnel(Established made, const TcpBytes::Options& options, Duration dead_peer, Scratch* scratch)
        : Tunnel(made.peer, made.server_key),
          stream_(std::move(made.stream)),
          session_(std::move(made.session)),
          options_(options),
          dead_peer_(dead_peer),
          scratch_(scratch) {}

    std::unique_ptr<ByteTunnel> bytes() override {
        return std::make_unique<TcpBytes>(std::move(stream_), std::move(session_), options_, *scratch_);
    }
    std::unique_ptr<MessagePipe> messages() override {
        return std::make_unique<TcpMessages>(std::move(stream_), std::move(session_), dead_peer_);
    }
    std::weak_ptr<Remains> outlive(std::shared_ptr<const void>, std::function<void()>) override { return {}; }
    [[nodiscard]] std::optional<wire::proxy::Addresses> addresses() const override {
        return io::addresses_of(stream_);
    }

  private:
    io::Stream stream_;
    session::curve_tun::Session session_;
    TcpBytes::Options options_;
    Duration dead_peer_;
    Scratch* scratch_;
};

class TcpOpener final : public Opener {
  public:
    explicit TcpOpener(Environment lent) : lent_(std::move(lent)) {}

    void open(Opening opening, OpenedFn done, const io::CancellationPtr& cancellation) override {
        auto dialled = [scratch = lent_.scratch, dead_peer = opening.dead_peer,
                        options = TcpBytes::Options{opening.options.end_of_stream, UnheardEnd::refusal},
                        done = std::move(done)](Result<Established> made) mutable {
            if (!made) return done(fail(std::move(made)));
            io::set_tunnel_options(made->stream.native_handle(), dead_peer);
            done(std::make_unique<TcpTunnel>(std::move(*made), options, dead_peer, scratch));
        };
        dial_tunnel(*lent_.context, *lent_.resolver, lent_.tools,
                    {std::move(opening.address), std::move(opening.peer), std::move(opening.keys)},
                    opening.deadline, std::move(dialled), cancellation);
    }

  private:
    Environment lent_;
};

std::unique_ptr<Opener> make_opener(const Environment& lent) {
    return std::make_unique<TcpOpener>(lent);
}

std::weak_ptr<HandshakeHandle> shake_hands(const Environment& lent, io::Stream stream,
                                           const IpAddress& source, guard::Admission::Ticket place,
                                           std::shared_ptr<Guest> guest) {
    auto may_in = [guest](const crypto::PublicKey& client) { return guest->authorise(client, {}); };
    auto done = [guest = std::move(guest), scratch = lent.scratch,
                 place = std::move(place)](Result<Established> made) mutable {
        if (!made) return guest->refused(made.error());
        place.succeed(io::now());
        const TcpBytes::Options options{guest->options().end_of_stream, UnheardEnd::orderly};
        guest->established(
            std::make_unique<TcpTunnel>(std::move(*made), options, guest->dead_peer(), scratch));
    };
    return start_server_handshake(std::move(stream), lent.tools, source, std::move(may_in), std::move(done));
}

}  // namespace

constinit const Wire kWire{.make_opener = make_opener, .shake_hands = shake_hands};

}  // namespace curvegate::tunnel::curve_tun
