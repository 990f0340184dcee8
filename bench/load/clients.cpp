#include "common.hpp"

#include <unistd.h>

#include <cstdio>

namespace curvegate::load {
namespace {

constexpr std::uint64_t kOpeningTogether = 32;

double seconds(Clock::duration duration) {
    return std::chrono::duration<double>(duration).count();
}

Bytes bytes_of(const Head& head) {
    return {reinterpret_cast<const Byte*>(&head), sizeof head};
}

/// The connections stay open until then, so that somebody can look at what they cost.
void wait_for_end_of_input() {
    std::fflush(stdout);
    std::array<char, 256> unread{};
    while (::read(STDIN_FILENO, unread.data(), unread.size()) > 0) {
    }
}

/// A connection that sends a message and waits for the same to come back, again and again.
class Client {
  public:
    void open(const sockaddr_in& to, std::uint64_t number) {
        fd_ = connect_to(to, number);
        number_ = number;
    }
    void close() { fd_.reset(); }
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] Clock::time_point asked_at() const { return asked_at_; }
    [[nodiscard]] std::uint64_t asked() const { return asked_; }
    /// What epoll is to wait for.
    [[nodiscard]] std::uint32_t events() const {
        return sent_ < out_.size() ? std::uint32_t{EPOLLIN | EPOLLOUT} : EPOLLIN;
    }
    /// All of `message` comes back, and nothing of `head` before it.
    void ask(Bytes head, Bytes message) {
        asked_at_ = Clock::now();
        ++asked_;
        head_ = came_ = head.size();
        sent_ = 0;
        out_.assign(head.begin(), head.end());
        out_.insert(out_.end(), message.begin(), message.end());
        send_on();
    }
    /// True: the whole answer is there, and right.
    bool move(std::uint32_t happened, MutableBytes buffer) {
        if ((happened & EPOLLOUT) != 0) send_on();
        if ((happened & ~EPOLLOUT) == 0) return false;
        const Moved got = receive(fd(), buffer);
        if (got.how == Moved::How::blocks) return false;
        if (got.how == Moved::How::broken) fail_errno(name());
        if (got.how == Moved::How::end) fail(name() + " ends early");
        if (got.size > out_.size() - came_) fail(name() + ": more comes back than was sent");
        verify_same(Bytes(out_).subspan(came_, got.size), buffer.first(got.size), came_ - head_);
        came_ += got.size;
        return came_ == out_.size();
    }

  private:
    [[nodiscard]] std::string name() const { return "connection " + std::to_string(number_); }
    void send_on() {
        if (sent_ == out_.size()) return;
        const Moved sent = send(fd(), Bytes(out_).subspan(sent_));
        if (sent.how == Moved::How::broken) fail_errno(name());
        sent_ += sent.size;
    }

    UniqueFd fd_;
    std::uint64_t number_ = 0;
    std::uint64_t asked_ = 0;
    Clock::time_point asked_at_;
    std::vector<Byte> out_;  // head and message
    std::size_t sent_ = 0;   // of them
    std::size_t head_ = 0;   // its size
    std::size_t came_ = 0;   // place up to which the answer is there
};

/// Many clients in one thread.
class Crowd {
  public:
    Crowd(const sockaddr_in& to, std::uint64_t count) : clients(count), to_(to), buffer_(kPiece) {
        allow_descriptors(count + 16);
    }
    std::vector<Client> clients;

    void open(Client& client, Bytes head, Bytes message) {
        client.open(to_, opened_++);
        client.ask(head, message);
        poll_.add(client.fd(), client.events(), &client);
    }
    void ask(Client& client, Bytes message) {
        client.ask({}, message);
        if (client.events() != EPOLLIN) poll_.change(client.fd(), client.events(), &client);
    }
    /// Waits until something happens; `on_answer` gets each client whose answer is there.
    template <class OnAnswer>
    void turn(const OnAnswer& on_answer) {
        for (const epoll_event& event : poll_.wait(true)) {
            Client& client = *static_cast<Client*>(event.data.ptr);
            const std::uint32_t before = client.events();
            const bool is_answered = client.move(event.events, buffer_);
            if (client.events() != before) poll_.change(client.fd(), client.events(), &client);
            if (is_answered) on_answer(client);
        }
    }
    /// Opens all, some at a time, each with a message that comes back. `message` makes it of a client's
    /// number.
    template <class Message>
    void open_all(Bytes head, Message message) {
        std::uint64_t opened = 0;
        std::uint64_t answered = 0;
        while (answered < clients.size()) {
            for (; opened < clients.size() && opened - answered < kOpeningTogether; ++opened)
                open(clients[opened], head, message(opened));
            turn([&](Client&) { ++answered; });
        }
    }

  private:
    sockaddr_in to_;
    Poll poll_;
    std::vector<Byte> buffer_;
    std::uint64_t opened_ = 0;
};

/// A byte that is no head; it differs from connection to connection.
class OneByte {
  public:
    Bytes operator()(std::uint64_t number) {
        byte_ = static_cast<Byte>(2 + number % 254);
        return {&byte_, 1};
    }

  private:
    Byte byte_ = 0;
};

/// Messages of one size, none like another.
class Messages {
  public:
    explicit Messages(std::uint64_t size) : message_(size) {
        if (size == 0 || size > kPiece) fail("a request has 1 to " + std::to_string(kPiece) + " bytes");
    }
    Bytes operator()(std::uint64_t client, std::uint64_t number) {
        const Bytes noise = pattern_.piece(client * 5003 + number * 7919, message_.size());
        std::ranges::copy(noise, message_.begin());
        const std::array<std::uint64_t, 2> name{client, number};
        std::memcpy(message_.data(), name.data(), std::min(sizeof name, message_.size()));
        return message_;
    }

  private:
    Pattern pattern_{Pattern::Way::up};
    std::vector<Byte> message_;
};

/// How long each of many things took.
class Times {
  public:
    void add(Clock::duration time) { all_.push_back(time); }
    [[nodiscard]] std::uint64_t count() const { return all_.size(); }
    [[nodiscard]] std::string as_json() {
        std::ranges::sort(all_);
        if (all_.empty()) fail("nothing was measured: give more time");
        const auto at = [this](double part) {
            return std::to_string(
                seconds(all_[static_cast<std::size_t>(part * static_cast<double>(count() - 1))]) * 1e6);
        };
        return "\"p50_us\": " + at(0.5) + ", \"p90_us\": " + at(0.9) + ", \"p99_us\": " + at(0.99) +
               ", \"max_us\": " + at(1);
    }

  private:
    std::vector<Clock::duration> all_;
};

}  // namespace

void requests(const sockaddr_in& to, std::uint64_t connections, std::uint64_t size, double duration) {
    Crowd crowd(to, connections);
    Messages messages(size);
    const auto number = [&](const Client& client) {
        return static_cast<std::uint64_t>(&client - crowd.clients.data());
    };
    crowd.open_all(bytes_of({Wish::echo, {}, size, 0}),
                   [&](std::uint64_t client) { return messages(client, 0); });

    const auto whole = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(duration));
    auto begin = Clock::now() + whole / 10;
    bool is_warm = false;
    Times times;
    std::uint64_t unanswered = crowd.clients.size();
    std::uint64_t answered = 0;  // since it is warm, those after the end too
    const auto ask = [&](Client& client) { crowd.ask(client, messages(number(client), client.asked())); };
    for (Client& client : crowd.clients) ask(client);
    while (unanswered > 0) {
        crowd.turn([&](Client& client) {
            const auto now = Clock::now();
            if (!is_warm && now >= begin) {
                is_warm = true;
                begin = now;
                std::puts("ready");
                std::fflush(stdout);
            } else if (is_warm) {
                ++answered;
                if (now < begin + whole) times.add(now - client.asked_at());
            }
            if (now < begin + whole) {
                ask(client);
            } else {
                --unanswered;
            }
        });
    }
    const double rate = static_cast<double>(times.count()) / duration;
    std::printf("{\"rate\": %.1f, \"answered\": %llu, %s}\n", rate, static_cast<unsigned long long>(answered),
                times.as_json().c_str());
    wait_for_end_of_input();
}

void connects(const sockaddr_in& to, std::uint64_t count, std::uint64_t together) {
    Crowd crowd(to, std::min(count, together));
    OneByte one_byte;
    Times times;
    std::uint64_t opened = 0;
    const auto begin = Clock::now();
    const auto open = [&](Client& client) { crowd.open(client, {}, one_byte(opened++)); };
    for (Client& client : crowd.clients) open(client);
    while (times.count() < count) {
        crowd.turn([&](Client& client) {
            times.add(Clock::now() - client.asked_at());
            client.close();
            if (opened < count) open(client);
        });
    }
    const double took = seconds(Clock::now() - begin);
    std::printf("{\"rate\": %.1f, \"seconds\": %.6f, %s}\n", static_cast<double>(count) / took, took,
                times.as_json().c_str());
}

void hold(const sockaddr_in& to, std::uint64_t count) {
    Crowd crowd(to, count);
    const auto begin = Clock::now();
    crowd.open_all({}, OneByte());
    std::printf("{\"held\": %llu, \"seconds\": %.6f}\n", static_cast<unsigned long long>(count),
                seconds(Clock::now() - begin));
    wait_for_end_of_input();
}

}  // namespace curvegate::load
