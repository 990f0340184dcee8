#pragma once

#include "handshake/machine.hpp"

namespace curvegate::handshake::curve_tun {

enum class ClientState {
    ready,       ///< has not begun
    initiating,  ///< hello sent, waits for the cookie
    vouching,    ///< the vault makes the vouch
    vouched,     ///< the vouch is on its way into the socket
    connected,   ///< over TCP as soon as it is written: version 1 confirms nothing
    closed,
};
inline constexpr std::size_t kClientStates = 6;
[[nodiscard]] std::string_view name_of(ClientState state) noexcept;

/// PROTOCOL 4: every step of a client's handshake. What is not listed meets undeclared().
inline constexpr std::array<Transition<ClientState>, 5> kClientTable = {{
    {ClientState::ready, EventKind::start, ClientState::initiating, "4.3"},
    {ClientState::initiating, EventKind::cookie, ClientState::vouching, "4.4"},
    {ClientState::vouching, EventKind::vouch_made, ClientState::vouched, "4.5"},
    {ClientState::vouched, EventKind::written, ClientState::connected, "4.5"},
    {ClientState::connected, EventKind::stop, ClientState::closed, "5.5"},
}};

/// The client's end of a curve_tun handshake over TCP, with one expected server key.
class Client {
  public:
    /// `deadline` bounds the whole handshake; the vault's answer has its own bound within it.
    Client(const crypto::PublicKey& server, const Timeouts& timeouts, Instant deadline) noexcept;

    [[nodiscard]] Actions handle(Event&& event, Instant now);
    [[nodiscard]] Deadline next_deadline() const noexcept { return deadline_; }
    [[nodiscard]] ClientState state() const noexcept;
    /// As Server's.
    [[nodiscard]] std::size_t expected_packet_size() const noexcept;

  private:
    struct Ready {};
    struct Initiating {
        crypto::EphemeralKeyPair keys;
        crypto::SharedKey with_server;  // DH(ECs, S): made for the hello, opens the cookie
    };
    struct Vouching {
        crypto::SharedKey shared;  // DH(ECs, ES)
        wire::curve_tun::Cookie cookie;
    };
    struct Vouched {
        crypto::SharedKey shared;
    };
    struct Connected {};
    struct Closed {};
    using State = std::variant<Ready, Initiating, Vouching, Vouched, Connected, Closed>;

    [[nodiscard]] Actions step(Event&& event, Instant now);
    [[nodiscard]] Actions on_start(crypto::EphemeralKeyPair&& keys);
    [[nodiscard]] Actions on_cookie(Initiating& state, const wire::curve_tun::SealedCookie& cookie,
                                    Instant now);
    [[nodiscard]] Actions on_vouch_made(Vouching& state, const vault::Vouch& made);
    [[nodiscard]] Actions close(Error why);

    crypto::PublicKey server_;
    Timeouts timeouts_;
    Instant limit_;
    Deadline deadline_;
    State state_;
};

}  // namespace curvegate::handshake::curve_tun
