#include "io/socket_options.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace curvegate::io {
namespace {

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

}  // namespace curvegate::io
