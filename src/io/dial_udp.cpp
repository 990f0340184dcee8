#include "io/dial_udp.hpp"

#include "io/host.hpp"
#include "io/listen.hpp"

namespace curvegate::io {
namespace {

class UdpDialler : public std::enable_shared_from_this<UdpDialler> {
  public:
    UdpDialler(asio::io_context& context, Target target, DialedUdpFn done)
        : context_(context), target_(std::move(target)), timer_(context), done_(std::move(done)) {}

    void start(Resolver& resolver, Instant deadline) {
        timer_.expires_at(deadline);
        timer_.async_wait([self = shared_from_this()](error_code error) {
            if (!error) self->finish(fail(DialErrc::timeout, self->target_.text()));
        });
        // The timer keeps this. A resolver that never answers must not: it may outlive our context.
        find_addresses(context_, resolver, target_.host, [weak = weak_from_this()](auto addresses) {
            if (const auto self = weak.lock()) self->resolved(addresses);
        });
    }

  private:
    void resolved(const Result<std::vector<ScopedIp>>& addresses) {
        if (!done_) return;
        if (!addresses) return finish(std::unexpected(addresses.error()));
        std::string why;
        for (const auto& address : *addresses) {
            auto socket = connect_udp(address, target_.port);
            if (socket || socket.error().is(DialErrc::own_lack)) return finish(std::move(socket));
            why = socket.error().detail();
        }
        finish(fail(DialErrc::refused, target_.text() + ": " + why));
    }

    void finish(Result<os::UniqueFd> result) {
        if (!done_) return;
        timer_.cancel();
        auto done = std::exchange(done_, nullptr);
        done(std::move(result));
    }

    asio::io_context& context_;
    Target target_;
    io::Timer timer_;
    DialedUdpFn done_;
};

}  // namespace

void dial_udp(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
              DialedUdpFn done) {
    std::make_shared<UdpDialler>(context, target, std::move(done))->start(resolver, deadline);
}

}  // namespace curvegate::io
