#include "io/listener.hpp"

#include "log/log.hpp"
#include "os/descriptors.hpp"

#include <cerrno>
#include <cstring>

namespace curvegate::io {
namespace {

constexpr int kBatch = 64;  // accepted in one go, so that sessions get their turn
constexpr std::string_view kNoRoom =
    "all descriptors are in use but those that are kept for control and metrics; raise LimitNOFILE, or lower "
    "sessions";
constexpr Duration kPause = std::chrono::milliseconds(100);

bool is_passing(int code) {
    return code == ECONNABORTED || code == EINTR || code == EPROTO || code == ENETDOWN;
}

}  // namespace

Listener::Listener(asio::io_context& context, os::UniqueFd listening, std::string service, AcceptFn accept,
                   AddressForm form)
    : context_(context),
      socket_(context),
      timer_(context),
      service_(std::move(service)),
      accept_(std::move(accept)),
      form_(form) {
    int family = AF_INET;
    socklen_t size = sizeof family;
    (void)::getsockopt(listening.get(), SOL_SOCKET, SO_DOMAIN, &family, &size);
    error_code error;
    socket_.assign(Stream::protocol_type(family, family == AF_UNIX ? 0 : IPPROTO_TCP), listening.release(),
                   error);
    socket_.non_blocking(true, error);
}

Listener::~Listener() {
    stop();
}

void Listener::start() {
    wait();
}

void Listener::stop() {
    *alive_ = false;
    error_code ignored;
    timer_.cancel();
    socket_.close(ignored);
}

void Listener::wait() {
    socket_.async_wait(Stream::wait_read, [this, alive = alive_](error_code error) {
        if (!error && *alive) accept_all();
    });
}

void Listener::accept_all() {
    // Looked at before, so that a connection that finds no room stays in the queue and is not cut.
    if (!os::has_room_for_session(socket_.native_handle())) {
        log::limited(log::Level::warning, "accept_failed",
                     {{"service", service_}, {"reason", std::string(kNoRoom)}});
        return pause();
    }
    for (int i = 0; i < kBatch; ++i) {
        sockaddr_storage from{};
        socklen_t size = sizeof from;
        auto* raw = reinterpret_cast<sockaddr*>(&from);
        os::UniqueFd fd(::accept4(socket_.native_handle(), raw, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!fd) {
            const int code = errno;
            if (code == EAGAIN || code == EWOULDBLOCK) return wait();
            if (is_passing(code)) continue;
            log::limited(log::Level::warning, "accept_failed",
                         {{"service", service_}, {"reason", std::strerror(code)}});
            return pause();
        }
        IpAddress address{};
        std::string source = "unix";
        const int family = from.ss_family;
        if (family == AF_INET || family == AF_INET6) {
            tcp::endpoint endpoint;
            endpoint.resize(size);
            std::memcpy(endpoint.data(), &from, size);
            address = address_of(endpoint);
            source = source_text(ip_endpoint_of(endpoint), form_);
        }
        const bool is_last = os::is_kept_back(fd.get());
        error_code error;
        Stream stream(context_);
        stream.assign(Stream::protocol_type(family, family == AF_UNIX ? 0 : IPPROTO_TCP), fd.get(), error);
        if (error) continue;  // fd closes itself
        (void)fd.release();
        stream.native_non_blocking(true, error);
        accept_(std::move(stream), std::move(source), address);
        if (!socket_.is_open()) return;
        if (is_last) return pause();
    }
    wait();
}

void Listener::pause() {
    timer_.expires_after(kPause);
    timer_.async_wait([this, alive = alive_](error_code error) {
        if (!error && *alive) accept_all();
    });
}

}  // namespace curvegate::io
