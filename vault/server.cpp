#include "vault/server.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

namespace curvegate::vault {
namespace {

constexpr std::size_t kFixedPolls = 2;
constexpr Duration kLastRetry = std::chrono::seconds(60);
constexpr Duration kAcceptPause = std::chrono::seconds(1);
constexpr int kTick = 1000;  // milliseconds between looks at deadlines, while there are any

void make_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    (void)::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

}  // namespace

Server::Server(Service& service, const std::vector<NonceCounter*>& counters, Say say)
    : service_(&service), say_(std::move(say)) {
    for (NonceCounter* counter : counters) add_counter(*counter);
}

void Server::add(os::UniqueFd connection) {
    make_nonblocking(connection.get());
    connections_.push_back(std::make_unique<Connection>());
    connections_.back()->fd = std::move(connection);
    if (!dropped_) return;
    for (const KeySlot slot : dropped_()) send(*connections_.back(), {kNoticeId, KeyDropped{slot}});
}

void Server::announce(KeySlot dropped) {
    for (const auto& connection : connections_) send(*connection, {kNoticeId, KeyDropped{dropped}});
}

void Server::drop_counter(const NonceCounter& counter) {
    std::erase_if(counters_, [&](const Counter& one) { return one.counter == &counter; });
}

void Server::accept_from(os::UniqueFd listener, std::vector<unsigned> uids) {
    listener_ = std::move(listener);
    uids_ = std::move(uids);
}

void Server::run() {
    while (wait(-1)) {
        serve(std::chrono::steady_clock::now(),
              std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()));
    }
}

int Server::patience() const {
    if (hellos_left_) return 0;
    const bool deadlines =
        accept_again_.has_value() || (door_ != nullptr && door_->has_deadline()) ||
        std::ranges::any_of(counters_, [](const Counter& one) { return one.counter->failed(); }) ||
        std::ranges::any_of(connections_, [](const auto& one) { return !one->replies.empty(); });
    return deadlines ? kTick : -1;
}

bool Server::wait(int timeout) {
    polled_.assign(kFixedPolls, pollfd{-1, 0, 0});  // poll passes over negative descriptors
    polled_[0] = {end_fd_, POLLIN, 0};
    if (!accept_again_) polled_[1] = {listener_.get(), POLLIN, 0};
    for (const auto& connection : connections_) {
        const short events = connection->replies.empty() ? POLLIN : POLLOUT;
        polled_.push_back({connection->fd.get(), events, 0});
    }
    first_control_ = polled_.size();
    if (door_ != nullptr) door_->add_polls(polled_);
    const int most = patience();
    if (most >= 0 && (timeout < 0 || most < timeout)) timeout = most;
    if (::poll(polled_.data(), polled_.size(), timeout) < 0) polled_.clear();  // EINTR: nothing is known
    return polled_.empty() || polled_[0].revents == 0;
}

void Server::serve(Instant now, WallTime wall) {
    // Reading all before answering any: a vouch that waits on one connection goes before another's Hellos.
    const std::size_t last = std::min(first_control_, polled_.size());
    for (std::size_t i = kFixedPolls; i < last; ++i) {
        Connection& connection = *connections_[i - kFixedPolls];
        if ((polled_[i].revents & POLLOUT) != 0) flush(connection, now);
        if ((polled_[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) read_all(connection, now);
    }
    for (const auto& connection : connections_) {
        while (const auto request = connection->queue.pop_prompt()) answer(*connection, *request, now, wall);
    }
    answer_hellos(now, wall);
    for (const auto& connection : connections_) {
        flush(*connection, now);
        if (connection->stuck_until && now >= *connection->stuck_until) {
            say_rarely(now, "a connection does not take its replies; ended");
            connection->ended = true;
        }
    }
    if (door_ != nullptr) door_->serve(std::span<const pollfd>(polled_).subspan(last), now);
    for (const auto& connection : connections_) flush(*connection, now);  // what the door announced
    const bool may_accept = !accept_again_ || now >= *accept_again_;
    if (may_accept) accept_again_.reset();
    if (may_accept && polled_.size() > 1 && polled_[1].revents != 0) accept_all(now);
    std::erase_if(connections_, [](const auto& connection) { return connection->ended; });
    polled_.clear();
    for (Counter& counter : counters_) tend(counter, now);
}

void Server::accept_all(Instant now) {
    while (true) {
        os::UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (!fd && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (!fd) {
            // No descriptor left, or the like: the listener would stay readable and the loop would spin.
            accept_again_ = now + kAcceptPause;
            return;
        }
        const auto uid = os::peer_uid(fd.get());
        if (!uid || std::ranges::find(uids_, *uid) == uids_.end()) {
            say_rarely(now, "refused a connection from uid " +
                                (uid ? std::to_string(*uid) : std::string("unknown")));
        } else if (connections_.size() >= kMostConnections) {
            say_rarely(now, "refused a connection: " + std::to_string(kMostConnections) + " are open");
        } else {
            add(std::move(fd));
        }
    }
}

void Server::read_all(Connection& connection, Instant now) {
    std::array<MessageBuffer, os::kMessagesACall> buffers;
    std::array<os::MessageSlot, os::kMessagesACall> slots;
    for (std::size_t i = 0; i < slots.size(); ++i) slots[i].bytes = buffers[i];
    // Bounded, and a full queue leaves the rest in the socket: one connection cannot hold up the others.
    std::size_t came = slots.size();
    for (std::size_t read = 0; came == slots.size() && read < RequestQueue::kMostPrompt; read += came) {
        const std::size_t room = std::min(slots.size(), connection.queue.room());
        if (room == 0) return;
        const auto received = os::receive_messages(connection.fd.get(), std::span(slots).first(room));
        if (!received) return end(connection, now, received.error().text());
        came = *received;
        for (const auto& slot : std::span(slots).first(came)) {
            if (slot.size == 0) connection.ended = true;
            if (connection.ended) return;
            if (!slot.whole) return end(connection, now, "a message of a wrong length or kind");
            const auto request = parse_request(slot.bytes.first(slot.size));
            if (!request) return end(connection, now, "a request that is malformed or not listed");
            if (const auto dropped = connection.queue.push(*request))
                send(connection, {dropped->id, Refused{verb_of(dropped->body), Status::over_rate}});
        }
    }
}

void Server::end(Connection& connection, Instant now, std::string_view why) {
    say_rarely(now, std::string(why) + "; connection ended");
    connection.ended = true;
}

void Server::answer(Connection& connection, const Request& request, Instant now, WallTime wall) {
    if (!connection.ended) send(connection, service_->handle(request, now, wall));
}

void Server::answer_hellos(Instant now, WallTime wall) {
    // In turn over the connections, and few at a time: then whatever came in between has its answer first.
    std::size_t empty = 0;
    for (std::size_t done = 0; done < kHellosATurn && empty < connections_.size();) {
        first_hello_ = (first_hello_ + 1) % connections_.size();
        Connection& connection = *connections_[first_hello_];
        const auto request = connection.ended ? std::nullopt : connection.queue.pop_hello();
        if (!request) {
            ++empty;
            continue;
        }
        empty = 0;
        ++done;
        answer(connection, *request, now, wall);
    }
    hellos_left_ = std::ranges::any_of(connections_, [](const auto& connection) {
        return !connection->ended && connection->queue.size() != 0;
    });
}

void Server::send(Connection& connection, const Reply& reply) {
    Message& message = connection.replies.emplace_back();
    message.size = serialise(reply, message.bytes).size();
}

void Server::flush(Connection& connection, Instant now) {
    std::array<os::MessageSlot, os::kMessagesACall> slots;
    while (!connection.replies.empty() && !connection.ended) {
        const std::size_t count = std::min(slots.size(), connection.replies.size());
        for (std::size_t i = 0; i < count; ++i)
            slots[i] = {connection.replies[i].bytes, connection.replies[i].size};
        const auto sent = os::send_messages(connection.fd.get(), std::span(slots).first(count));
        if (!sent) {
            connection.ended = true;
            return;
        }
        if (*sent == 0) {
            if (!connection.stuck_until) connection.stuck_until = now + kStuckAfter;
            return;
        }
        connection.stuck_until.reset();
        connection.replies.erase(connection.replies.begin(),
                                 connection.replies.begin() + static_cast<std::ptrdiff_t>(*sent));
    }
}

void Server::tend(Counter& counter, Instant now) {
    if (!counter.counter->failed() && !counter.counter->wants_reserve()) return;
    if (!counter.retry_at && counter.counter->failed())
        counter.retry_at = now + counter.delay;  // failed in a request
    if (counter.retry_at && now < *counter.retry_at) return;
    const auto reserved = counter.counter->reserve();
    if (reserved) {
        if (counter.announced) say_("the nonce counter can be written again");
        counter = {counter.counter, std::nullopt, kFirstRetry, false};
        return;
    }
    if (!counter.announced)
        say_(reserved.error().text() + "; long-term nonces end when those in hand are used");
    counter.announced = true;
    counter.retry_at = now + counter.delay;
    counter.delay = std::min(2 * counter.delay, kLastRetry);
}

void Server::say_rarely(Instant now, std::string_view line) {
    if (lines_.allows(now)) say_(line);
}

}  // namespace curvegate::vault
