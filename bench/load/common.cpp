#include "common.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>

namespace curvegate::load {

void fail(const std::string& why) {
    std::fflush(stdout);
    std::fprintf(stderr, "curvegate-load: %s\n", why.c_str());
    std::_Exit(1);
}

void fail_errno(const std::string& what) {
    fail(what + ": " + std::strerror(errno));
}

sockaddr_in address_of(std::string_view host, std::string_view port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    std::uint16_t number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc{} || end != port.data() + port.size()) fail("not a port: " + std::string(port));
    if (::inet_pton(AF_INET, std::string(host).c_str(), &address.sin_addr) != 1)
        fail("not an IPv4 address: " + std::string(host));
    address.sin_port = htons(number);
    return address;
}

namespace {

UniqueFd new_socket() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) fail_errno("socket");
    return fd;
}

void set(int fd, int level, int option) {
    const int on = 1;
    if (::setsockopt(fd, level, option, &on, sizeof on) != 0) fail_errno("setsockopt");
}

Moved moved(ssize_t result) {
    if (result > 0) return {Moved::How::some, static_cast<std::size_t>(result)};
    if (result == 0) return {Moved::How::end};
    return {errno == EAGAIN || errno == EINTR ? Moved::How::blocks : Moved::How::broken};
}

}  // namespace

UniqueFd listen_on(std::string_view port) {
    const sockaddr_in address = address_of("127.0.0.1", port);
    UniqueFd fd = new_socket();
    set(fd.get(), SOL_SOCKET, SO_REUSEADDR);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(fd.get(), 4096) != 0)
        fail_errno("listening on port " + std::string(port));
    return fd;
}

int port_of(int socket) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail_errno("getsockname");
    return ntohs(address.sin_port);
}

std::optional<UniqueFd> accept_from(int listener) {
    UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
        if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return std::nullopt;
        fail_errno("accept");
    }
    set(fd.get(), IPPROTO_TCP, TCP_NODELAY);
    return fd;
}

UniqueFd connect_to(const sockaddr_in& to, std::uint64_t number) {
    UniqueFd fd = new_socket();
    set(fd.get(), IPPROTO_TCP, TCP_NODELAY);
    if (number >= kConnectionsAnAddress) {
        sockaddr_in from{};
        from.sin_family = AF_INET;
        const auto further = static_cast<std::uint32_t>(number / kConnectionsAnAddress % 250);
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + further);
        set(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
        if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from) != 0) fail_errno("bind");
    }
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS)
        fail_errno("connect");
    return fd;
}

Moved receive(int socket, MutableBytes into) {
    return moved(::recv(socket, into.data(), into.size(), 0));
}

Moved send(int socket, Bytes from) {
    return moved(::send(socket, from.data(), from.size(), MSG_NOSIGNAL));
}

void allow_descriptors(std::uint64_t needed) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) fail_errno("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) fail_errno("setrlimit");
    if (needed > limit.rlim_cur)
        fail(std::to_string(needed) + " descriptors are needed, " + std::to_string(limit.rlim_cur) +
             " allowed (ulimit -Hn)");
}

// ---- epoll ----

Poll::Poll() : fd_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!fd_) fail_errno("epoll_create1");
}

void Poll::control(int operation, int fd, std::uint32_t events, void* what) const {
    epoll_event event{};
    event.events = events;
    event.data.ptr = what;
    if (::epoll_ctl(fd_.get(), operation, fd, &event) != 0) fail_errno("epoll_ctl");
}

std::span<const epoll_event> Poll::wait(bool bounded) {
    const int count = ::epoll_wait(fd_.get(), events_.data(), static_cast<int>(events_.size()),
                                   bounded ? kPatience * 1000 : -1);
    if (count < 0 && errno != EINTR) fail_errno("epoll_wait");
    if (count == 0) fail("nothing has happened for " + std::to_string(kPatience) + " seconds");
    return {events_.data(), static_cast<std::size_t>(std::max(count, 0))};
}

// ---- bytes ----

Pattern::Pattern(Way way) : bytes_(kPeriod + kPiece) {
    auto state = static_cast<std::uint64_t>(way) * 0x9e3779b97f4a7c15;
    for (std::size_t i = 0; i < kPeriod; ++i) {  // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes_[i] = static_cast<Byte>(state >> 32);
    }
    std::copy_n(bytes_.begin(), kPiece,
                bytes_.begin() + kPeriod);  // so that a piece never has to turn around
}

Bytes Pattern::piece(std::uint64_t at, std::uint64_t size) const {
    return {bytes_.data() + at % kPeriod, static_cast<std::size_t>(std::min<std::uint64_t>(size, kPiece))};
}

void Pattern::verify(std::uint64_t at, Bytes data) const {
    verify_same(piece(at, data.size()), data, at);
}

void verify_same(Bytes expected, Bytes data, std::uint64_t from) {
    if (std::memcmp(expected.data(), data.data(), data.size()) == 0) return;
    const auto place = std::ranges::mismatch(expected, data).in2 - data.begin();
    fail("byte " + std::to_string(from + static_cast<std::uint64_t>(place)) + " is wrong");
}

}  // namespace curvegate::load
