#include "vault/control.hpp"

#include "vault/control_message.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

namespace curvegate::vault {

ControlDoor::ControlDoor(os::UniqueFd listener, Handler handler, Say say)
    : listener_(std::move(listener)), handler_(std::move(handler)), say_(std::move(say)) {}

void ControlDoor::add_polls(std::vector<pollfd>& polls) const {
    // At the cap newcomers wait in the listener's queue; the idle ones go in time.
    const bool room = connections_.size() < kMostConnections;
    polls.push_back({room ? listener_.get() : -1, POLLIN, 0});
    for (const auto& connection : connections_) polls.push_back({connection.fd.get(), POLLIN, 0});
}

void ControlDoor::serve(std::span<const pollfd> polled, Instant now) {
    for (std::size_t i = 1; i < polled.size(); ++i) {
        if (polled[i].revents != 0) read(connections_[i - 1], now);
    }
    for (auto& connection : connections_) {
        if (now - connection.heard >= kIdle) connection.ended = true;
    }
    std::erase_if(connections_, [](const auto& connection) { return connection.ended; });
    if (!polled.empty() && polled[0].revents != 0) accept_all(now);
}

void ControlDoor::accept_all(Instant now) {
    while (connections_.size() < kMostConnections) {
        os::UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (!fd) return;
        admit(std::move(fd), now);
    }
}

void ControlDoor::admit(os::UniqueFd fd, Instant now) {
    ucred peer{};
    socklen_t size = sizeof peer;
    const bool known = ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    const auto say = [&](const std::string& line) {
        if (lines_.allows(now)) say_(line);
    };
    if (!known || (peer.uid != 0 && peer.uid != ::geteuid()))
        return say("refused uid " + (known ? std::to_string(peer.uid) : std::string("unknown")) +
                   " on the control socket");
    const auto same = std::ranges::count(connections_, peer.pid, &Connection::pid);
    if (static_cast<std::size_t>(same) >= kMostOfAProcess)
        return say("refused process " + std::to_string(peer.pid) +
                   " one more connection to the control socket");
    connections_.push_back({std::move(fd), peer.pid, now});
}

void ControlDoor::read(Connection& connection, Instant now) {
    auto received = receive_with_descriptors(connection.fd.get(), message_.bytes(), kMostControlDescriptors);
    if (!received) return end(connection, now, received.error().text());
    if (!*received) return;
    auto& [size, handed] = **received;
    if (size == 0) {
        connection.ended = true;
        return;
    }
    connection.heard = now;
    const auto request = parse_control_request(message_.bytes().first(size));
    std::vector<Byte> reply;
    if (request) reply = serialise(handler_(*request, std::move(handed), now));
    ::sodium_memzero(message_.bytes().data(), message_.bytes().size());
    if (!request) return end(connection, now, "a request that is malformed or not listed");
    if (::send(connection.fd.get(), reply.data(), reply.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        connection.ended = true;
}

void ControlDoor::end(Connection& connection, Instant now, std::string_view why) {
    if (lines_.allows(now)) say_("control socket: " + std::string(why) + "; connection ended");
    connection.ended = true;
}

}  // namespace curvegate::vault
