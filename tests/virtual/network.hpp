#pragma once

#include "io/asio.hpp"
#include "io/datagram_socket.hpp"
#include "support/bytes.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <deque>
#include <functional>
#include <queue>
#include <vector>

/// A network of datagrams under virtual time: delay, loss, duplicates, another order. Everything follows from
/// a seed.
namespace curvegate::test {

enum class Kind { hello, cookie, initiate, client_message, server_message, other };

inline Kind kind_of(Bytes packet) {
    const std::string_view magic(reinterpret_cast<const char*>(packet.data()),
                                 std::min<std::size_t>(packet.size(), 8));
    if (magic == "QvnQ5XlH") return Kind::hello;
    if (magic == "RL3aNMXK") return Kind::cookie;
    if (magic == "QvnQ5XlI") return Kind::initiate;
    if (magic == "QvnQ5XlM") return Kind::client_message;
    if (magic == "RL3aNMXM") return Kind::server_message;
    return Kind::other;
}

inline IpEndpoint place(std::string_view address, std::uint16_t port) {
    return {{*IpAddress::parse(address)}, port};
}

/// A packet at the moment it was sent.
struct Sent {
    Instant at;
    Kind kind;
    IpEndpoint from;
    IpEndpoint to;
    Buffer bytes;
};

/// Which packets to its address a socket gets: a server's port has two.
enum class Takes { all, sessions, hellos };

class Socket;

class Network {
  public:
    explicit Network(std::uint64_t seed) : random_(seed) {}

    Duration delay = std::chrono::milliseconds(10);  ///< one way
    double loss = 0;
    double reordered = 0;  ///< part of the packets that take up to twice the delay more
    double doubled = 0;
    /// Sees each packet first. True: it is lost.
    std::function<bool(const Sent&)> loses;
    std::vector<Sent> sent;  ///< all of them, those too that were lost

    void send(const IpEndpoint& from, const IpEndpoint& to, Bytes bytes, Instant now) {
        sent.push_back({now, kind_of(bytes), from, to, copy_of(bytes)});
        if (loses && loses(sent.back())) return;
        if (happens(loss)) return;
        carry(from, to, bytes, now);
        if (happens(doubled)) carry(from, to, bytes, now);
    }
    /// Brings what is due by now.
    void deliver(Instant now);
    [[nodiscard]] Deadline next() const { return way_.empty() ? std::nullopt : Deadline(way_.top().at); }

    [[nodiscard]] std::vector<Sent> of(Kind kind) const {
        std::vector<Sent> out;
        std::ranges::copy_if(sent, std::back_inserter(out),
                             [&](const Sent& one) { return one.kind == kind; });
        return out;
    }
    /// Moments since `begin` at which a packet of this kind was sent.
    [[nodiscard]] std::vector<Duration> times_of(Kind kind, Instant begin) const {
        std::vector<Duration> out;
        for (const auto& one : of(kind)) out.push_back(one.at - begin);
        return out;
    }
    [[nodiscard]] std::size_t bytes_to(const IpEndpoint& to) const {
        std::size_t out = 0;
        for (const auto& one : sent) out += one.to == to ? one.bytes.size() : 0;
        return out;
    }

  private:
    friend class Socket;
    struct OnTheWay {
        Instant at;
        std::uint64_t order = 0;
        IpEndpoint from;
        IpEndpoint to;
        Buffer bytes;
        bool operator>(const OnTheWay& other) const {
            return at != other.at ? at > other.at : order > other.order;
        }
    };

    bool happens(double chance) {
        return chance > 0 && static_cast<double>(random_.next() >> 11) < chance * 9007199254740992.0;
    }
    void carry(const IpEndpoint& from, const IpEndpoint& to, Bytes bytes, Instant now) {
        Instant at = now + delay;
        if (happens(reordered))
            at += Duration(
                static_cast<Duration::rep>(random_.below(2 * static_cast<std::size_t>(delay.count()))));
        way_.push({at, ++order_, from, to, copy_of(bytes)});
    }

    SeededRandom random_;
    std::priority_queue<OnTheWay, std::vector<OnTheWay>, std::greater<>> way_;
    std::uint64_t order_ = 0;
    std::vector<Socket*> sockets_;
};

/// A socket on it.
class Socket final : public io::DatagramSocket {
  public:
    /// `network` outlives it.
    Socket(asio::io_context& context, Network& network, const IpEndpoint& at, Takes takes = Takes::all)
        : here(at), context_(context), network_(network), takes_(takes) {
        network_.sockets_.push_back(this);
    }
    ~Socket() override {
        *open_ = false;
        std::erase(network_.sockets_, this);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    IpEndpoint here;  ///< may change: what is on its way to the old address is lost

    std::size_t receive(const Handler& handler) override {
        auto batch = std::exchange(inbox_, {});
        std::size_t count = 0;
        for (auto& [from, bytes] : batch) {
            if (!*open_) break;
            ++count;
            handler({from, here.address.ip}, bytes);
        }
        return count;
    }
    void wait_readable(std::move_only_function<void()> handler) override {
        readable_ = std::move(handler);
        wake();
    }
    void wait_writable(std::move_only_function<void()> handler) override { post(std::move(handler)); }
    [[nodiscard]] std::size_t send(const Path& to, Bytes train, std::size_t segment) override;
    void close() override {
        *open_ = false;
        readable_ = nullptr;
        inbox_.clear();
    }

  private:
    friend class Network;
    struct Arrived {
        IpEndpoint from;
        Buffer bytes;
    };
    [[nodiscard]] bool takes(Kind kind) const {
        return takes_ == Takes::all || (takes_ == Takes::hellos) == (kind == Kind::hello);
    }
    void wake() {
        if (inbox_.empty() || !readable_) return;
        post(std::exchange(readable_, nullptr));
    }
    void post(std::move_only_function<void()> handler) {
        asio::post(context_, [open = open_, handler = std::move(handler)]() mutable {
            if (*open) handler();
        });
    }

    asio::io_context& context_;
    Network& network_;
    Takes takes_;
    std::deque<Arrived> inbox_;
    std::move_only_function<void()> readable_;
    std::shared_ptr<bool> open_ = std::make_shared<bool>(true);
};

inline void Network::deliver(Instant now) {
    while (!way_.empty() && way_.top().at <= now) {
        const auto packet = way_.top();
        way_.pop();
        for (Socket* socket : sockets_) {
            if (socket->here != packet.to || !*socket->open_ || !socket->takes(kind_of(packet.bytes)))
                continue;
            socket->inbox_.push_back({packet.from, packet.bytes});
            socket->wake();
            break;
        }
    }
}

inline std::size_t Socket::send(const Path& to, Bytes train, std::size_t segment) {
    const std::size_t step = segment == 0 ? train.size() : segment;
    for (Bytes rest = train; *open_ && !rest.empty(); rest = rest.subspan(std::min(step, rest.size())))
        network_.send(here, to.peer, rest.first(std::min(step, rest.size())), io::now());
    return train.size();
}

}  // namespace curvegate::test
