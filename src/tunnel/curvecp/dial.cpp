#include "tunnel/curvecp/dial.hpp"

#include "io/clock.hpp"
#include "io/host.hpp"
#include "io/udp_socket.hpp"
#include "os/descriptors.hpp"

#include <sys/socket.h>
#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curvecp {
namespace {

constexpr Duration kLeastTry = std::chrono::milliseconds(1'500);
constexpr Duration kMostTry = std::chrono::milliseconds(2'500);  // where another may be tried after it

class StreamDialler : public std::enable_shared_from_this<StreamDialler> {
  public:
    StreamDialler(asio::io_context& context, const tunnel::HandshakeTools& tools, StreamTarget target,
                  Instant deadline, DialedStreamFn done)
        : context_(context),
          tools_(tools),
          target_(std::move(target)),
          deadline_(deadline),
          timer_(context),
          done_(std::move(done)) {}

    void start(io::Resolver& resolver) {
        if (target_.keys.empty()) {
            return asio::post(context_, [self = shared_from_this()] {
                self->finish(fail(io::DialErrc::no_pin, self->target_.peer));
            });
        }
        // The resolver always answers, but perhaps too late.
        wait_until(deadline_,
                   [](StreamDialler& self) { self.finish(fail(io::DialErrc::timeout, self.where())); });
        good_ = resolver.good();
        io::find_addresses(context_, resolver, target_.address.host,
                           [weak = weak_from_this()](auto addresses) {
                               if (const auto self = weak.lock()) self->on_resolved(std::move(addresses));
                           });
    }

    /// Nobody wants it any more: nothing is left open, and done() is told `stopped`.
    void stop() {
        if (!done_) return;
        timer_.cancel();
        io::tell_stopped(context_, done_);
        if (tunnel_) tunnel_->stop();
    }

  private:
    struct Try {
        ScopedIp address;
        crypto::PublicKey key;
    };

    void on_resolved(Result<std::vector<ScopedIp>> addresses) {
        if (!done_) return;
        if (!addresses) return finish(fail(std::move(addresses)));
        several_ = addresses->size() > 1;
        for (const auto& address : good_->order(place(), std::move(*addresses), io::now())) {
            for (const auto& key : target_.keys) tries_.push_back({address, key});
        }
        try_next();
    }

    void try_next() {
        const Try next = tries_[next_++];
        const ClientTunnel::Options options{{next.key, target_.extensions, target_.name},
                                            IpEndpoint{next.address, target_.address.port},
                                            target_.confirm_by.value_or(deadline_),
                                            target_.dead_peer};
        auto socket = open_socket(options.server);
        if (!socket) {  // of a family that this host does not have, perhaps
            const bool ours = socket.error().is(io::DialErrc::own_lack);
            if (next_ < tries_.size() && !ours) return try_next();
            return finish(fail(std::move(socket)));
        }
        tunnel_ = std::make_shared<ClientTunnel>(
            context_, std::move(*socket), tools_, options,
            [self = shared_from_this(), next](const Result<>& result) { self->on_result(result, next); });
        tunnel_->start();
        const bool last = next_ == tries_.size();
        const auto share = (deadline_ - io::now()) / static_cast<int>(tries_.size() - next_ + 1);
        if (last && !target_.confirm_by) return (void)timer_.cancel();
        const Instant until =
            last ? deadline_
                 : std::min(deadline_, io::now() + std::clamp<Duration>(share, kLeastTry, kMostTry));
        wait_until(until, [](StreamDialler& self) {
            if (self.tunnel_ && !self.tunnel_->has_cookie()) self.tunnel_->stop();
        });
    }

    [[nodiscard]] Result<std::unique_ptr<io::DatagramSocket>> open_socket(const IpEndpoint& server) const {
        os::UniqueFd fd = os::socket_for_session(server.address.ip.is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM);
        if (!fd) return io::fail_dial("a socket for " + server.text(), errno);
        return std::make_unique<io::UdpSocket>(context_, std::move(fd), io::Gro::on);
    }

    void on_result(const Result<>& result, const Try& tried) {
        auto tunnel = std::exchange(tunnel_, nullptr);
        if (!done_) return;
        if (result) {
            if (several_) good_->answered(place(), tried.address, io::now());
            return finish(DialedStream{tunnel->hand_over(), tunnel, tried.key});
        }
        using handshake::Errc;
        const Error& why = result.error();
        const bool silence = why.is(Errc::connect_timeout) || why.is(Errc::stopped);
        if (!silence) return finish(std::unexpected(why));
        if (next_ < tries_.size() && io::now() < deadline_) return try_next();
        finish(fail(io::DialErrc::no_cookie, where()));
    }

    template <class What>
    void wait_until(Instant when, What what) {
        timer_.expires_at(when);
        timer_.async_wait([self = shared_from_this(), what](error_code error) {
            if (!error && self->done_) what(*self);
        });
    }

    [[nodiscard]] std::string place() const { return "udp:" + target_.address.text(); }
    [[nodiscard]] std::string where() const { return target_.peer + " at " + place(); }

    void finish(Result<DialedStream> result) {
        timer_.cancel();
        if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
    }

    asio::io_context& context_;
    tunnel::HandshakeTools tools_;
    StreamTarget target_;
    Instant deadline_;
    io::Timer timer_;
    DialedStreamFn done_;
    std::shared_ptr<guard::GoodAddresses> good_;
    bool several_ = false;  // addresses
    std::vector<Try> tries_;
    std::size_t next_ = 0;
    std::shared_ptr<ClientTunnel> tunnel_;
};

}  // namespace

void dial_stream(asio::io_context& context, io::Resolver& resolver, const tunnel::HandshakeTools& tools,
                 StreamTarget target, Instant deadline, DialedStreamFn done,
                 const io::CancellationPtr& cancellation) {
    const auto dialler =
        std::make_shared<StreamDialler>(context, tools, std::move(target), deadline, std::move(done));
    dialler->start(resolver);
    io::stop_on_cancel(cancellation, dialler);
}

}  // namespace curvegate::tunnel::curvecp
