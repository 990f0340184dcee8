#include "common.hpp"

#include <poll.h>

#include <cstdio>

namespace curvegate::load {
namespace {

/// What the socket is ready for: POLLIN, POLLOUT if that is asked for, or an error.
int wait_for(int socket, int events) {
    pollfd entry{socket, static_cast<short>(events), 0};
    const int ready = ::poll(&entry, 1, kPatience * 1000);
    if (ready < 0 && errno != EINTR) fail_errno("poll");
    if (ready == 0) fail("nothing has happened for " + std::to_string(kPatience) + " seconds");
    return entry.revents;
}

/// The bytes that come down, and then the count of those that went up.
class Incoming {
  public:
    explicit Incoming(std::uint64_t size) : size_(size) {}
    [[nodiscard]] bool is_over() const { return told_.size() == sizeof(std::uint64_t); }
    [[nodiscard]] std::uint64_t told() const {
        std::uint64_t count = 0;
        std::memcpy(&count, told_.data(), sizeof count);
        return count;
    }
    void take(Bytes data) {
        const Bytes bulk =
            data.first(static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), size_ - came_)));
        pattern_.verify(came_, bulk);
        came_ += bulk.size();
        told_.insert(told_.end(), data.begin() + static_cast<std::ptrdiff_t>(bulk.size()), data.end());
        if (told_.size() > sizeof(std::uint64_t)) fail("more bytes come than were asked for");
    }

  private:
    Pattern pattern_{Pattern::Way::down};
    std::uint64_t size_;
    std::uint64_t came_ = 0;
    std::vector<Byte> told_;
};

}  // namespace

void stream(const sockaddr_in& to, std::uint64_t up, std::uint64_t down) {
    const Pattern pattern(Pattern::Way::up);
    Incoming incoming(down);
    std::vector<Byte> buffer(kPiece);
    const UniqueFd socket = connect_to(to, 0);
    (void)wait_for(socket.get(), POLLOUT);  // it is connected

    const auto begin = Clock::now();
    const Head head{Wish::stream, {}, up, down};
    if (send(socket.get(), {reinterpret_cast<const Byte*>(&head), sizeof head}).size != sizeof head)
        fail_errno("sending the first bytes");
    std::uint64_t sent = 0;
    while (!incoming.is_over()) {
        const int ready = wait_for(socket.get(), sent < up ? POLLIN | POLLOUT : POLLIN);
        if ((ready & ~POLLOUT) != 0) {
            const Moved got = receive(socket.get(), buffer);
            if (got.how == Moved::How::broken) fail_errno("receiving");
            if (got.how == Moved::How::end) fail("the stream ends early");
            incoming.take(Bytes(buffer).first(got.size));
        }
        if ((ready & POLLOUT) != 0) {
            const Moved done = send(socket.get(), pattern.piece(sent, up - sent));
            if (done.how == Moved::How::broken) fail_errno("sending");
            sent += done.size;
        }
    }
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    if (incoming.told() != up)
        fail(std::to_string(incoming.told()) + " of " + std::to_string(up) + " bytes have arrived");
    std::printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", static_cast<unsigned long long>(up + down), took);
}

}  // namespace curvegate::load
