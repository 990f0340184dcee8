#include "io/dial.hpp"

#include "io/clock.hpp"
#include "io/host.hpp"
#include "os/descriptors.hpp"

#include <sys/un.h>
#include <boost/asio/post.hpp>

#include <cerrno>
#include <cstring>
#include <optional>

namespace curvegate::io {
namespace {

constexpr Duration kFullQueue = std::chrono::milliseconds(50);

class Dialler : public std::enable_shared_from_this<Dialler> {
  public:
    Dialler(asio::io_context& context, Target target, ConnectedFn done)
        : context_(context),
          target_(std::move(target)),
          timer_(context),
          next_step_(context),
          done_(std::move(done)) {}

    void start(Resolver& resolver, Instant deadline) {
        timer_.expires_at(deadline);
        timer_.async_wait([self = shared_from_this()](error_code error) {
            if (!error) self->finish(fail(DialErrc::timeout, self->target_.text()));
        });
        if (!target_.unix_path.empty())
            return asio::post(context_, [self = shared_from_this()] { self->dial_unix(); });
        find_addresses(
            context_, resolver, target_.host,
            [weak = weak_from_this(), good = resolver.good()](Result<std::vector<ScopedIp>> addresses) {
                const auto self = weak.lock();
                if (!self) return;
                if (addresses) addresses = good->order(self->target_.text(), std::move(*addresses), now());
                self->resolved(std::move(addresses));
            });
    }

    /// Nobody wants it any more: nothing is left open, and done() is told `stopped`.
    void stop() {
        if (!done_) return;
        close();
        tell_stopped(context_, done_);
    }

  private:
    void resolved(Result<std::vector<ScopedIp>> addresses) {
        if (!done_) return;
        if (!addresses) return finish(fail(std::move(addresses)));
        addresses_ = std::move(*addresses);
        try_next();
    }

    /// Beside those that are under way.
    void try_next() {
        const ScopedIp& address = addresses_[attempts_.size()];
        const Stream::endpoint_type endpoint = endpoint_of(address, target_.port);
        const auto attempt = std::make_shared<Stream>(context_);
        attempts_.push_back(attempt);
        ++under_way_;
        error_code lack;
        attempt->open(endpoint.protocol(), lack);
        if (!lack && os::is_kept_back(attempt->native_handle())) lack.assign(EMFILE, lack.category());
        if (lack) return on_connected(attempt, address, lack);
        attempt->async_connect(endpoint, [self = shared_from_this(), attempt, address](error_code failed) {
            self->on_connected(attempt, address, failed);
        });
        if (all_tried()) return (void)next_step_.cancel();
        next_step_.expires_after(kStagger);
        next_step_.async_wait([self = shared_from_this()](error_code error) {
            if (!error && self->done_ && !self->all_tried()) self->try_next();
        });
    }

    [[nodiscard]] bool all_tried() const { return attempts_.size() == addresses_.size(); }

    void on_connected(const std::shared_ptr<Stream>& attempt, const ScopedIp& address, error_code failed) {
        if (!done_) return;
        --under_way_;
        error_code ignored;
        if (failed) {
            attempt->close(ignored);
            if (!is_own_lack(failure_)) failure_ = failed.value();
            if (!all_tried()) return try_next();
            if (under_way_ == 0) finish(fail_dial(target_.text(), failure_));
            return;
        }
        attempt->non_blocking(true, ignored);
        finish(Connected{std::move(*attempt), addresses_.size() > 1 ? std::optional(address) : std::nullopt});
    }

    void dial_unix() {
        if (target_.unix_path.size() >= sizeof(sockaddr_un::sun_path)) {
            return finish(
                fail(DialErrc::refused, target_.unix_path + " (path is too long for a unix socket)"));
        }
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        target_.unix_path.copy(address.sun_path, sizeof address.sun_path - 1);
        const int type = target_.unix_kind == Target::UnixSocket::stream ? SOCK_STREAM : SOCK_SEQPACKET;
        os::UniqueFd fd = os::socket_for_session(AF_UNIX, type);
        if (!fd) return finish(fail_dial(target_.text(), errno));
        if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            return errno == EAGAIN ? dial_unix_later() : finish(fail_dial(target_.text(), errno));
        error_code error;
        Stream socket(context_);
        socket.assign(Stream::protocol_type(AF_UNIX, 0), fd.get(), error);
        if (error) return finish(fail_dial(target_.text(), error.value()));
        (void)fd.release();
        socket.non_blocking(true, error);
        finish(Connected{std::move(socket), std::nullopt});
    }

    // Nobody tells when its queue has room: such a socket knows no connection under way.
    void dial_unix_later() {
        next_step_.expires_after(kFullQueue);
        next_step_.async_wait([self = shared_from_this()](error_code error) {
            if (!error && self->done_) self->dial_unix();
        });
    }

    void finish(Result<Connected> result) {
        if (!done_) return;
        close();  // of what it gives the socket was moved out
        auto done = std::exchange(done_, nullptr);
        done(std::move(result));
    }

    void close() {
        timer_.cancel();
        next_step_.cancel();
        error_code ignored;
        for (const auto& attempt : std::exchange(attempts_, {})) attempt->close(ignored);
    }

    asio::io_context& context_;
    Target target_;
    io::Timer timer_;
    io::Timer next_step_;
    ConnectedFn done_;
    std::vector<ScopedIp> addresses_;
    std::vector<std::shared_ptr<Stream>> attempts_;  // one for each address that was tried, in their order
    std::size_t under_way_ = 0;
    int failure_ = 0;  // the last one, but our own lack counts before all others
};

}  // namespace

std::string Target::text() const {
    if (!unix_path.empty()) return (unix_kind == UnixSocket::stream ? "unix:" : "seqpacket:") + unix_path;
    const bool v6 = host.find(':') != std::string::npos;
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

void connect_to(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
                ConnectedFn done, const CancellationPtr& cancellation) {
    const auto dialler = std::make_shared<Dialler>(context, target, std::move(done));
    dialler->start(resolver, deadline);
    stop_on_cancel(cancellation, dialler);
}

void dial(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
          DialedFn done, const CancellationPtr& cancellation) {
    auto good = resolver.good();
    auto remember = [good = std::move(good), place = target.text(),
                     done = std::move(done)](Result<Connected> connected) mutable {
        if (!connected) return done(fail(std::move(connected)));
        if (connected->chosen) good->answered(place, *connected->chosen, now());
        done(std::move(connected->stream));
    };
    connect_to(context, resolver, target, deadline, std::move(remember), cancellation);
}

}  // namespace curvegate::io
