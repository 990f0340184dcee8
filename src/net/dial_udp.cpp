#include "net/dial_udp.hpp"

#include "net/listen.hpp"
#include "os/descriptors.hpp"

#include <boost/asio/post.hpp>

#include <cerrno>

namespace curvegate::net {
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
        if (const auto literal = IpAddress::parse(target_.host)) {
            return asio::post(context_,
                              [self = shared_from_this(), address = *literal] { self->resolved({address}); });
        }
        resolver.resolve(context_, target_.host,
                         [self = shared_from_this()](const std::vector<IpAddress>& addresses) {
                             self->resolved(addresses);
                         });
    }

  private:
    void resolved(const std::vector<IpAddress>& addresses) {
        if (addresses.empty()) return finish(fail(DialErrc::name_unknown, target_.host));
        std::string why;
        for (const auto& address : addresses) {
            auto socket = connect_udp(address, target_.port);
            if (socket && os::is_kept_back(socket->get())) {
                errno = EMFILE;
                socket = os::fail_errno("a socket");
            }
            if (socket) return finish(std::move(socket));
            why = socket.error().text();
        }
        finish(fail(DialErrc::refused, target_.text() + " (" + why + ")"));
    }

    void finish(Result<os::UniqueFd> result) {
        if (!done_) return;
        timer_.cancel();
        auto done = std::exchange(done_, nullptr);
        done(std::move(result));
    }

    asio::io_context& context_;
    Target target_;
    asio::steady_timer timer_;
    DialedUdpFn done_;
};

}  // namespace

void dial_udp(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
              DialedUdpFn done) {
    std::make_shared<UdpDialler>(context, target, std::move(done))->start(resolver, deadline);
}

}  // namespace curvegate::net
