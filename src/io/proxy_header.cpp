#include "io/proxy_header.hpp"

#include <sys/socket.h>
#include <boost/asio/post.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace curvegate::io {
namespace {

bool would_wait(ssize_t result) noexcept {
    return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/// Reads the header of one connection: looks at what waits, and takes from the socket what is the header's.
class HeaderReader : public std::enable_shared_from_this<HeaderReader> {
  public:
    HeaderReader(Stream stream, ProxyHeaders::DoneFn done, std::shared_ptr<std::size_t> waiting)
        : stream_(std::move(stream)),
          timer_(stream_.get_executor()),
          done_(std::move(done)),
          waiting_(std::move(waiting)) {
        ++*waiting_;
    }
    ~HeaderReader() { --*waiting_; }
    HeaderReader(const HeaderReader&) = delete;
    HeaderReader& operator=(const HeaderReader&) = delete;

    void start(Instant deadline) {
        timer_.expires_at(deadline);
        timer_.async_wait([self = shared_from_this()](error_code error) {
            if (!error) self->finish(fail(ProxyErrc::timeout));
        });
        wait();
    }

  private:
    void wait() {
        stream_.async_wait(Stream::wait_read, [self = shared_from_this()](error_code error) {
            if (!error) self->look();
        });
    }

    void look() {
        if (!done_) return;
        if (names_nobody_) return look_behind();
        const auto room = MutableBytes(bytes_).subspan(have_);
        const ssize_t seen =
            ::recv(stream_.native_handle(), room.data(), room.size(), MSG_PEEK | MSG_DONTWAIT);
        if (would_wait(seen)) return wait();
        if (seen <= 0) return finish(fail(ProxyErrc::closed));
        const std::size_t end = have_ + static_cast<std::size_t>(seen);
        const auto header = wire::proxy::parse(Bytes(bytes_).first(end));
        if (!header) return finish(std::unexpected(header.error()));
        if (!take((*header ? (*header)->size : end) - have_)) return finish(fail(ProxyErrc::closed));
        if (!*header) return wait();
        if ((*header)->addresses) return finish((*header)->addresses);
        names_nobody_ = true;
        wait();
    }

    /// Whose header names nobody may have come only to ask whether we are here.
    void look_behind() {
        Byte first{};
        const ssize_t seen = ::recv(stream_.native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
        if (would_wait(seen)) return wait();
        if (seen <= 0) return finish(fail(ProxyErrc::only_asked));
        finish(std::nullopt);
    }

    /// The header's next bytes leave the socket: had they only been looked at, they would wake us up again.
    bool take(std::size_t size) {
        const auto into = MutableBytes(bytes_).subspan(have_, size);
        const ssize_t taken = ::recv(stream_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
        have_ += size;
        return std::cmp_equal(taken, size);
    }

    void finish(Result<std::optional<wire::proxy::Addresses>> header) {
        if (!done_) return;
        timer_.cancel();
        auto done = std::exchange(done_, nullptr);
        if (header) return done(ProxiedStream{std::move(stream_), *header});
        error_code ignored;
        stream_.close(ignored);
        done(fail(std::move(header)));
    }

    Stream stream_;
    io::Timer timer_;
    ProxyHeaders::DoneFn done_;  // empty: over
    std::shared_ptr<std::size_t> waiting_;
    // A parse() that wants more has less than this, so there is always room to read into.
    ByteArray<wire::proxy::kMaxHeaderSize> bytes_{};
    std::size_t have_ = 0;       // of bytes_, taken from the socket
    bool names_nobody_ = false;  // the header is read, and has no addresses
};

std::optional<wire::proxy::Endpoint> endpoint_of(const Stream::endpoint_type& from) {
    const int family = from.protocol().family();
    if (family != AF_INET && family != AF_INET6) return std::nullopt;
    tcp::endpoint endpoint;
    endpoint.resize(from.size());
    std::memcpy(endpoint.data(), from.data(), from.size());
    return wire::proxy::Endpoint{address_of(endpoint), endpoint.port()};
}

}  // namespace

void ProxyHeaders::read(Stream stream, Instant deadline, DoneFn done) {
    if (*waiting_ >= most_) {
        const auto executor = stream.get_executor();
        return asio::post(executor, [stream = std::move(stream), done = std::move(done)]() mutable {
            error_code ignored;
            stream.close(ignored);
            done(fail(ProxyErrc::too_many));
        });
    }
    std::make_shared<HeaderReader>(std::move(stream), std::move(done), waiting_)->start(deadline);
}

std::optional<wire::proxy::Addresses> addresses_of(const Stream& stream) {
    error_code error;
    const auto source = stream.remote_endpoint(error);
    if (error) return std::nullopt;
    const auto destination = stream.local_endpoint(error);
    if (error) return std::nullopt;
    const auto from = endpoint_of(source);
    const auto to = endpoint_of(destination);
    if (!from || !to) return std::nullopt;
    return wire::proxy::Addresses{*from, *to};
}

Result<> write_proxy_header(Stream& plain, const wire::proxy::Introduction& introduction) {
    const auto header = wire::proxy::serialise(introduction);
    // Nothing was sent on this connection, so its buffer has room: a part of the header means that it is
    // broken.
    const ssize_t sent =
        ::send(plain.native_handle(), header.data(), header.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return fail(ProxyErrc::not_written, std::strerror(errno));
    if (!std::cmp_equal(sent, header.size()))
        return fail(ProxyErrc::not_written, "only a part of it was taken");
    return {};
}

}  // namespace curvegate::io
