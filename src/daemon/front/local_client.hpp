#pragma once

#include "base/time.hpp"
#include "io/asio.hpp"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace curvegate::daemon::front {

/// A client of the control socket or of the metrics page. It has kPatience to ask, and as long again for each
/// piece of the answer that it takes; then it is let go. What it is sent may be large, and shared with
/// others.
///
/// Handlers of its socket hold it; without one, whoever prepares its answer does.
class LocalClient : public std::enable_shared_from_this<LocalClient> {
  public:
    using Piece = std::shared_ptr<const std::string>;
    static constexpr Duration kPatience = std::chrono::seconds(5);

    virtual ~LocalClient() = default;
    LocalClient(const LocalClient&) = delete;
    LocalClient& operator=(const LocalClient&) = delete;

    [[nodiscard]] bool is_open() const { return socket_.is_open(); }
    /// Since when it has neither asked nor taken anything. Returns nullopt if it is we who are waited for.
    [[nodiscard]] std::optional<Instant> silent_since() const;
    void close();

  protected:
    explicit LocalClient(io::Stream socket);

    /// From here on the client is waited for, until it has asked.
    void await_request();
    void request_came() { asking_ = false; }
    /// What it is sent has no end, and it may stop reading for a while: unsent() is its only bound from here
    /// on.
    void listens() { listening_ = true; }
    void send(Piece piece);
    /// Goes out with what else is said in this turn.
    void send(std::string_view text);
    [[nodiscard]] std::size_t unsent() const noexcept { return unsent_; }
    /// Everything has been taken; called after each time that something was to be sent.
    virtual void on_all_sent() = 0;

    io::Stream socket_;

  private:
    void flush_soon();
    void flush();
    void arm_timer();

    io::Timer timer_;
    std::deque<Piece> pieces_;
    std::size_t taken_ = 0;  // of the first piece
    std::string text_;       // after the pieces
    std::size_t unsent_ = 0;
    Instant moved_;
    bool asking_ = false;
    bool listening_ = false;
    bool flushing_ = false;
    bool armed_ = false;
};

/// The clients of a server that has so many places.
class LocalClients {
  public:
    explicit LocalClients(std::size_t most) : most_(most) {}
    /// Returns false if there is no place. One that has been silent the longest is let go for the newcomer.
    [[nodiscard]] bool make_room();
    void add(std::weak_ptr<LocalClient> client) { all_.push_back(std::move(client)); }

  private:
    std::size_t most_;
    std::vector<std::weak_ptr<LocalClient>> all_;
};

}  // namespace curvegate::daemon::front
