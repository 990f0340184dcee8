#pragma once

#include "curvegate/errors.hpp"
#include "curvegate/keys.hpp"
#include "curvegate/vault.hpp"
#include "curvegate/wire.hpp"

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/async_result.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace curvegate {

using boost::system::error_code;
using Message = std::vector<std::uint8_t>;

/// The longest message, in bytes, by either wire.
inline constexpr std::size_t kMaxMessageSize = 65'503;
/// What may wait in a channel because its peer or the network is behind: so many sends, with so many bytes.
inline constexpr std::size_t kMaxWaitingSends = 4'096;
inline constexpr std::size_t kMaxWaitingBytes = std::size_t{32} * 1024 * 1024;
/// Channels that may wait in a listener for async_accept().
inline constexpr std::size_t kMaxWaitingChannels = 256;

/// A message-oriented, encrypted, mutually authenticated channel by curve_tun or CurveCP. What one end sends
/// as a message the other receives as one, empty ones too, in order, each once. A peer that leaves what was
/// sent unacknowledged and is silent for a minute, while a call waits, is given up: `closed`. A handle that
/// may be moved; destroying it closes the channel.
class Channel {
  public:
    Channel() noexcept = default;
    Channel(Channel&&) noexcept = default;
    Channel& operator=(Channel&& other) noexcept;
    ~Channel();

    /// Sends one message; completes when it has been handed to the kernel (curvecp: to the stream, which
    /// keeps it until the peer has it). `message` is copied before the call returns. Sends go out in the
    /// order of the calls. Over kMaxMessageSize: message_too_long, the channel goes on. While
    /// kMaxWaitingSends or kMaxWaitingBytes wait: too_many_sends, the channel goes on; wait for an earlier
    /// send before the next one. Cancellation is ignored.
    template <boost::asio::completion_token_for<void(error_code)> Token>
    auto async_send(std::span<const std::uint8_t> message, Token&& token) {
        return boost::asio::async_initiate<Token, void(error_code)>(
            [this](SendHandler handler, std::span<const std::uint8_t> bytes) {
                send(bytes, std::move(handler));
            },
            token, message);
    }

    /// Receives one message. Nothing is read from the peer while nobody waits: a program that does not
    /// receive stops its peer and stores nothing. Waiting receivers are served in the order of their calls. A
    /// receive that is cancelled (operation_aborted) has not taken a message. After the peer's close, what
    /// came before is still delivered; then `closed`.
    template <boost::asio::completion_token_for<void(error_code, Message)> Token>
    auto async_receive(Token&& token) {
        return async_receive(std::nullopt, std::forward<Token>(token));
    }
    /// The same, for at most `timeout`: then boost::asio::error::timed_out, and no message has been taken.
    template <boost::asio::completion_token_for<void(error_code, Message)> Token>
    auto async_receive(std::optional<std::chrono::steady_clock::duration> timeout, Token&& token) {
        return boost::asio::async_initiate<Token, void(error_code, Message)>(
            [this, timeout](ReceiveHandler handler) { receive(timeout, std::move(handler)); }, token);
    }

    /// Closes now: every waiting call completes with `closed`. What was handed to the kernel or the stream
    /// still goes out.
    void close();
    [[nodiscard]] bool is_open() const noexcept;
    /// The peer's long-term key, as it authenticated.
    [[nodiscard]] const PeerKey& peer() const noexcept;
    /// Its first name in known_hosts.
    [[nodiscard]] const std::string& peer_name() const noexcept;

    struct Impl;
    explicit Channel(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

  private:
    using SendHandler = boost::asio::any_completion_handler<void(error_code)>;
    using ReceiveHandler = boost::asio::any_completion_handler<void(error_code, Message)>;
    void send(std::span<const std::uint8_t> message, SendHandler handler);
    void receive(std::optional<std::chrono::steady_clock::duration> timeout, ReceiveHandler handler);

    std::shared_ptr<Impl> impl_;
};

/// Whom to connect to, and how long to try.
struct ConnectOptions {
    std::string host;  ///< address or name
    std::uint16_t port = 0;
    std::string peer;  ///< its name in known_hosts: one of its keys must answer
    std::chrono::steady_clock::duration timeout = std::chrono::seconds(10);
    Wire wire = Wire::curve_tun;
    std::string server_name = "channel";  ///< curvecp: which service of the server, as a domain name
};

using ConnectHandler = boost::asio::any_completion_handler<void(error_code, Channel)>;
void start_connect(const Vault& vault, const ConnectOptions& options, ConnectHandler handler);

/// Connects. Completes when the vouch is written: version 1 confirms nothing, so a server that refuses us
/// shows as `closed` on the first receive. Errors: no_pin, wrong_key, cannot_connect, timed_out,
/// vault_unavailable, out_of_memory.
template <boost::asio::completion_token_for<void(error_code, Channel)> Token>
auto async_connect(const Vault& vault, const ConnectOptions& options, Token&& token) {
    return boost::asio::async_initiate<Token, void(error_code, Channel)>(
        [](ConnectHandler handler, const Vault& with, const ConnectOptions& to) {
            start_connect(with, to, std::move(handler));
        },
        token, vault, options);
}

/// Where to listen, and whom to let in.
struct ListenOptions {
    std::string host;  ///< an address, "::" for both families
    std::uint16_t port = 0;
    std::vector<std::string> allow;  ///< names of known_hosts; empty: every valid key of the file
    Wire wire = Wire::curve_tun;
    std::string server_name = "*";  ///< curvecp: the service it answers to; "*": whatever is asked for
};

/// Accepts channels. A handle that may be moved; destroying it stops listening. Strangers are refused without
/// a word, within the deadlines and budgets that the daemon uses. So are clients while kMaxWaitingChannels
/// wait to be accepted.
class Listener {
  public:
    /// The error says in words what is wrong.
    [[nodiscard]] static std::expected<Listener, std::string> listen(const Vault& vault,
                                                                     const ListenOptions& options);
    Listener(Listener&&) noexcept = default;
    Listener& operator=(Listener&& other) noexcept;
    ~Listener();

    /// The next channel whose handshake has been completed and allowed. Waiting calls are served in order;
    /// one that is cancelled has not taken a channel. After close(): `closed`.
    template <boost::asio::completion_token_for<void(error_code, Channel)> Token>
    auto async_accept(Token&& token) {
        return boost::asio::async_initiate<Token, void(error_code, Channel)>(
            [this](ConnectHandler handler) { accept(std::move(handler)); }, token);
    }
    [[nodiscard]] std::uint16_t port() const noexcept;
    void close();

    struct Impl;

  private:
    explicit Listener(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
    void accept(ConnectHandler handler);
    std::shared_ptr<Impl> impl_;
};

}  // namespace curvegate
