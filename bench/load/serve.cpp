#include "common.hpp"

#include <cstdio>
#include <memory>
#include <unordered_map>

namespace curvegate::load {
namespace {

const Pattern& pattern(Pattern::Way way) {
    static const Pattern up(Pattern::Way::up);
    static const Pattern down(Pattern::Way::down);
    return way == Pattern::Way::up ? up : down;
}

/// One client of the backend.
class Connection {
  public:
    explicit Connection(UniqueFd fd) : fd_(std::move(fd)) {}
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::uint32_t events() const {
        return EPOLLIN | (out_.empty() && down_left_ == 0 ? 0U : EPOLLOUT);
    }
    /// Reads and writes what can be. False: it is over.
    bool move(MutableBytes buffer) {
        const Moved got = receive(fd(), buffer);
        if (got.how == Moved::How::end || got.how == Moved::How::broken) return false;
        for (Bytes data = buffer.first(got.size); !data.empty();) data = data.subspan(take(data));
        return write();
    }

  private:
    enum class State { fresh, head, bare, messages, stream };

    /// Gives how many of the bytes it took.
    std::size_t take(Bytes data) {
        if (state_ == State::fresh)
            state_ = data[0] > static_cast<Byte>(Wish::echo) ? State::bare : State::head;
        switch (state_) {
            case State::head: return gather(data, sizeof(Head));
            case State::messages: return gather(data, message_);
            case State::stream: return take_stream(data);
            default: out_.insert(out_.end(), data.begin(), data.end()); return data.size();
        }
    }
    /// A head or a message, of which the rest may come later.
    std::size_t gather(Bytes data, std::size_t whole) {
        data = data.first(std::min(data.size(), whole - in_.size()));
        in_.insert(in_.end(), data.begin(), data.end());
        if (in_.size() == whole) {
            if (state_ == State::head) {
                begin();
            } else {
                out_.insert(out_.end(), in_.begin(), in_.end());
            }
            in_.clear();
        }
        return data.size();
    }
    void begin() {
        Head head;
        std::memcpy(&head, in_.data(), sizeof head);
        state_ = head.wish == Wish::echo ? State::messages : State::stream;
        if (state_ == State::messages) {
            message_ = static_cast<std::size_t>(std::clamp<std::uint64_t>(head.first, 1, kPiece));
        } else {
            up_ = head.first;
            came_ = 0;
            down_ = down_left_ = head.second;
        }
    }
    std::size_t take_stream(Bytes data) {
        if (came_ == up_) fail("more bytes come than were announced");
        data = data.first(static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), up_ - came_)));
        pattern(Pattern::Way::up).verify(came_, data);
        came_ += data.size();
        return data.size();
    }
    /// False: the connection is broken.
    bool write() {
        while (true) {
            if (state_ == State::stream && came_ == up_ && down_left_ == 0) {
                const auto* count = reinterpret_cast<const Byte*>(&came_);
                out_.assign(count, count + sizeof came_);
                state_ = State::fresh;
            }
            const bool is_bulk = down_left_ > 0;
            const Bytes data =
                is_bulk ? pattern(Pattern::Way::down).piece(down_ - down_left_, down_left_) : Bytes(out_);
            if (data.empty()) return true;
            const Moved sent = send(fd(), data);
            if (sent.how == Moved::How::broken) return false;
            if (is_bulk) {
                down_left_ -= sent.size;
            } else {
                out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent.size));
            }
            if (sent.size < data.size()) return true;
        }
    }

    UniqueFd fd_;
    State state_ = State::fresh;
    std::vector<Byte> in_;         // of a head or a message
    std::vector<Byte> out_;        // waits to be sent; empty while a stream goes down
    std::size_t message_ = 0;      // its size
    std::uint64_t up_ = 0;         // bytes of the stream
    std::uint64_t came_ = 0;       // of them
    std::uint64_t down_ = 0;       // the same the other way
    std::uint64_t down_left_ = 0;  // of them
};

}  // namespace

void serve(std::string_view port) {
    allow_descriptors(0);
    const UniqueFd listener = listen_on(port);
    Poll poll;
    poll.add(listener.get(), EPOLLIN, nullptr);
    std::printf("%d\n", port_of(listener.get()));
    std::fflush(stdout);
    struct Known {
        std::unique_ptr<Connection> connection;
        std::uint32_t events;
    };
    std::unordered_map<const void*, Known> known;
    std::vector<Byte> buffer(kPiece);
    while (true) {
        for (const epoll_event& event : poll.wait(false)) {
            if (event.data.ptr == nullptr) {
                while (auto fd = accept_from(listener.get())) {
                    auto made = std::make_unique<Connection>(std::move(*fd));
                    poll.add(made->fd(), EPOLLIN, made.get());
                    const void* key = made.get();
                    known.emplace(key, Known{std::move(made), EPOLLIN});
                }
                continue;
            }
            Known& found = known.at(event.data.ptr);
            Connection& connection = *found.connection;
            if (!connection.move(buffer)) {
                known.erase(event.data.ptr);
            } else if (connection.events() != found.events) {
                found.events = connection.events();
                poll.change(connection.fd(), found.events, &connection);
            }
        }
    }
}

}  // namespace curvegate::load
