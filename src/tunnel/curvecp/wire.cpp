#include "tunnel/curvecp/wire.hpp"

#include "io/udp_socket.hpp"
#include "tunnel/curvecp/dial.hpp"
#include "tunnel/curvecp/endpoint.hpp"
#include "tunnel/curvecp/session_tunnel.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curvecp {
namespace {

class SessionOpener final : public Opener {
  public:
    explicit SessionOpener(Environment lent) : lent_(std::move(lent)) {}

    void open(Opening opening, OpenedFn done, const io::CancellationPtr& cancellation) override {
        const auto& options = opening.options;
        const std::string name = options.server_name.value_or("");
        const auto encoded = wire::curvecp::encode_server_name(name);
        if (!encoded) {
            return asio::post(*lent_.context, [done = std::move(done), name]() mutable {
                done(fail(io::DialErrc::name_unknown, "server_name " + name));
            });
        }
        StreamTarget server{std::move(opening.address),
                            std::move(opening.peer),
                            std::move(opening.keys),
                            {{options.server_extension}, {options.client_extension}},
                            *encoded,
                            opening.dead_peer,
                            opening.confirm_by};
        auto dialled = [done = std::move(done)](Result<DialedStream> made) mutable {
            if (!made) return done(fail(std::move(made)));
            done(std::make_unique<SessionTunnel>(std::move(made->tunnel), made->peer, vault::KeySlot{}));
        };
        dial_stream(*lent_.context, *lent_.resolver, lent_.tools, std::move(server), opening.deadline,
                    std::move(dialled), cancellation);
    }

  private:
    Environment lent_;
};

std::unique_ptr<Opener> make_opener(const Environment& lent) {
    return std::make_unique<SessionOpener>(lent);
}

std::unique_ptr<Endpoint> make_endpoint(const Environment& lent, os::UniqueFd sessions, os::UniqueFd hellos,
                                        const service::WireOptions& options, MakeGuest make_guest) {
    // Hellos without GRO: the kernel steers a train by its first packet, and Hellos of one sender may belong
    // to different workers.
    auto endpoint = std::make_unique<CurvecpEndpoint>(
        lent, std::make_unique<io::UdpSocket>(*lent.context, std::move(sessions), io::Gro::on),
        std::make_unique<io::UdpSocket>(*lent.context, std::move(hellos), io::Gro::off),
        std::move(make_guest));
    endpoint->set_options(options);
    return endpoint;
}

}  // namespace

constinit const Wire kWire{.make_opener = make_opener, .make_endpoint = make_endpoint};

}  // namespace curvegate::tunnel::curvecp
