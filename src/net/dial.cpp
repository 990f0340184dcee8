#include "net/dial.hpp"

#include "net/clock.hpp"
#include "net/host.hpp"
#include "os/descriptors.hpp"

#include <netinet/tcp.h>
#include <sys/un.h>
#include <boost/asio/post.hpp>

#include <cerrno>
#include <cstring>
#include <optional>

namespace curvegate::net {
namespace {

constexpr Duration kFullQueue = std::chrono::milliseconds(50);

/// A connection, and which of several addresses of its target took it; none if there was no choice.
struct Connected {
    Stream stream;
    std::optional<ScopedIp> chosen;
};

class Dialler : public std::enable_shared_from_this<Dialler> {
  public:
    using DoneFn = std::move_only_function<void(Result<Connected>)>;
    Dialler(asio::io_context& context, Target target, DoneFn done)
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
    asio::steady_timer timer_;
    asio::steady_timer next_step_;
    DoneFn done_;
    std::vector<ScopedIp> addresses_;
    std::vector<std::shared_ptr<Stream>> attempts_;  // one for each address that was tried, in their order
    std::size_t under_way_ = 0;
    int failure_ = 0;  // the last one, but our own lack counts before all others
};

void connect_to(asio::io_context& context, Resolver& resolver, const Target& target, Instant deadline,
                Dialler::DoneFn done, const CancellationPtr& cancellation) {
    const auto dialler = std::make_shared<Dialler>(context, target, std::move(done));
    dialler->start(resolver, deadline);
    stop_on_cancel(cancellation, dialler);
}

class TunnelDialler : public std::enable_shared_from_this<TunnelDialler> {
  public:
    TunnelDialler(asio::io_context& context, Resolver& resolver, const HandshakeTools& tools,
                  TunnelTarget target, Instant deadline, EstablishedFn done, CancellationPtr cancellation)
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
                self->finish(fail(DialErrc::no_pin, self->target_.peer));
            });
        }
        try_next();
    }

    /// While hands are shaken; before that the Dialler has its own.
    void stop() {
        if (!done_) return;
        tell_stopped(context_, done_);
        if (const auto running = handshake_.lock()) running->stop();
    }

  private:
    void try_next() {
        connect_to(
            context_, resolver_, target_.address, deadline_,
            [self = shared_from_this()](Result<Connected> connected) {
                if (!connected) return self->finish(fail(std::move(connected)));
                self->shake_hands(std::move(*connected));
            },
            cancellation_);
    }

    void shake_hands(Connected connected) {
        chosen_ = connected.chosen;
        handshake_ = start_client_handshake(
            std::move(connected.stream), tools_, target_.keys[next_++], deadline_,
            [self = shared_from_this()](Result<Established> result) { self->on_result(std::move(result)); });
        stop_on_cancel(cancellation_, shared_from_this());
    }

    void on_result(Result<Established> result) {
        if (!done_) return;
        if (result) {
            // Not before: whoever takes connections and shakes no hands is no good address.
            if (chosen_) good_->answered(target_.address.text(), *chosen_, now());
            return finish(std::move(result));
        }
        const Error& why = result.error();
        using handshake::Errc;
        if (why.is(Errc::vault_unavailable) || why.is(Errc::vault_timeout) ||
            why.is(Errc::no_secret_memory) || why.is(Errc::stopped) || why.is(Errc::bug)) {
            return finish(std::move(result));
        }
        // Whatever else the server did wrong says one thing only (PROTOCOL 4.6): try the next key of this
        // name.
        if (next_ < target_.keys.size() && now() < deadline_) return try_next();
        finish(fail(DialErrc::wrong_key,
                    target_.peer + " at " + target_.address.text() + " (" + why.text() + ")"));
    }

    void finish(Result<Established> result) {
        if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
    }

    asio::io_context& context_;
    Resolver& resolver_;
    HandshakeTools tools_;
    TunnelTarget target_;
    Instant deadline_;
    EstablishedFn done_;
    CancellationPtr cancellation_;
    std::shared_ptr<GoodAddresses> good_;
    std::weak_ptr<HandshakeHandle> handshake_;
    std::optional<ScopedIp> chosen_;  // of several addresses the one that hands are shaken with
    std::size_t next_ = 0;
};

template <class Value>
void set_option(int socket, int level, int name, Value value) {
    // A socket that does not know the option (a unix socket) works without it.
    (void)::setsockopt(socket, level, name, &value, sizeof value);
}

// Half of the time is for silence, and in the other half three probes stay without an answer.
void set_keepalive(int socket, Duration dead_peer) {
    constexpr int kProbes = 3;
    const auto seconds =
        static_cast<int>(std::chrono::duration_cast<std::chrono::seconds>(dead_peer).count());
    const int interval = std::max(1, seconds / (kProbes + 1));
    set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, interval);
    set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, interval);
    set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
}

}  // namespace

bool is_own_lack(int code) noexcept {
    return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
}

std::unexpected<Error> fail_dial(const std::string& where, int code) {
    return fail(is_own_lack(code) ? DialErrc::own_lack : DialErrc::refused,
                where + ": " + std::strerror(code));
}

std::string Target::text() const {
    if (!unix_path.empty()) return (unix_kind == UnixSocket::stream ? "unix:" : "seqpacket:") + unix_path;
    const bool v6 = host.find(':') != std::string::npos;
    return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
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

void dial_tunnel(asio::io_context& context, Resolver& resolver, const HandshakeTools& tools,
                 TunnelTarget target, Instant deadline, EstablishedFn done, CancellationPtr cancellation) {
    std::make_shared<TunnelDialler>(context, resolver, tools, std::move(target), deadline, std::move(done),
                                    std::move(cancellation))
        ->start();
}

void set_tunnel_options(int socket, Duration dead_peer) {
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set_keepalive(socket, dead_peer);
}

void set_plain_options(int socket, Duration dead_peer) {
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set_keepalive(socket, dead_peer);
    set_option(socket, SOL_SOCKET, SO_OOBINLINE, 1);
    reset_when_closed(socket);
}

void reset_when_closed(int socket) {
    set_option(socket, SOL_SOCKET, SO_LINGER, linger{1, 0});
}

void allow_orderly_close(int socket) {
    set_option(socket, SOL_SOCKET, SO_LINGER, linger{0, 0});
}

}  // namespace curvegate::net
