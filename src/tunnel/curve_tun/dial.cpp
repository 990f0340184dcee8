#include "tunnel/curve_tun/dial.hpp"

#include "io/clock.hpp"

#include <boost/asio/post.hpp>

namespace curvegate::tunnel::curve_tun {
namespace {

class TunnelDialler : public std::enable_shared_from_this<TunnelDialler> {
  public:
    TunnelDialler(asio::io_context& context, io::Resolver& resolver, const tunnel::HandshakeTools& tools,
                  TunnelTarget target, Instant deadline, EstablishedFn done, io::CancellationPtr cancellation)
        : context_(context),
          resolver_(resolver),
          tools_(tools),
          target_(std::move(target)),
          deadline_(deadline),
          done_(std::move(done)),
          cancellation_(std::move(cancellation)),
          good_(resolver.good()) {}

    void start() {
        if (target_.keys.empty()) {
            return asio::post(context_, [self = shared_from_this()] {
                self->finish(fail(io::DialErrc::no_pin, self->target_.peer));
            });
        }
        try_next();
    }

    /// While hands are shaken; before that the Dialler has its own.
    void stop() {
        if (!done_) return;
        io::tell_stopped(context_, done_);
        if (const auto running = handshake_.lock()) running->stop();
    }

  private:
    void try_next() {
        io::connect_to(
            context_, resolver_, target_.address, deadline_,
            [self = shared_from_this()](Result<io::Connected> connected) {
                if (!connected) return self->finish(fail(std::move(connected)));
                self->shake_hands(std::move(*connected));
            },
            cancellation_);
    }

    void shake_hands(io::Connected connected) {
        chosen_ = connected.chosen;
        handshake_ = start_client_handshake(
            std::move(connected.stream), tools_, target_.keys[next_++], deadline_,
            [self = shared_from_this()](Result<Established> result) { self->on_result(std::move(result)); });
        io::stop_on_cancel(cancellation_, shared_from_this());
    }

    void on_result(Result<Established> result) {
        if (!done_) return;
        if (result) {
            // Not before: whoever takes connections and shakes no hands is no good address.
            if (chosen_) good_->answered(target_.address.text(), *chosen_, io::now());
            return finish(std::move(result));
        }
        const Error& why = result.error();
        if (handshake::is_ours(why)) return finish(std::move(result));
        // Whatever else the server did wrong says one thing only (PROTOCOL 4.6): try the next key of this
        // name.
        if (next_ < target_.keys.size() && io::now() < deadline_) return try_next();
        finish(fail(io::DialErrc::wrong_key,
                    target_.peer + " at " + target_.address.text() + " (" + why.text() + ")"));
    }

    void finish(Result<Established> result) {
        if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
    }

    asio::io_context& context_;
    io::Resolver& resolver_;
    tunnel::HandshakeTools tools_;
    TunnelTarget target_;
    Instant deadline_;
    EstablishedFn done_;
    io::CancellationPtr cancellation_;
    std::shared_ptr<guard::GoodAddresses> good_;
    std::weak_ptr<HandshakeHandle> handshake_;
    std::optional<ScopedIp> chosen_;  // of several addresses the one that hands are shaken with
    std::size_t next_ = 0;
};

}  // namespace

void dial_tunnel(asio::io_context& context, io::Resolver& resolver, const tunnel::HandshakeTools& tools,
                 TunnelTarget target, Instant deadline, EstablishedFn done,
                 io::CancellationPtr cancellation) {
    std::make_shared<TunnelDialler>(context, resolver, tools, std::move(target), deadline, std::move(done),
                                    std::move(cancellation))
        ->start();
}

}  // namespace curvegate::tunnel::curve_tun
