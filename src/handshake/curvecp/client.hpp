#pragma once

#include "handshake/curvecp/machine.hpp"

namespace curvegate::handshake::curvecp {

enum class ClientState {
    ready,       ///< has not begun
    initiating,  ///< says Hello, again and again, until a Cookie comes
    vouching,    ///< the vault makes the vouch
    vouched,     ///< messages go in Initiates; the server has not been heard
    connected,   ///< the server has accepted: messages go in Messages
    closed,
};
inline constexpr std::size_t kClientStates = 6;
[[nodiscard]] std::string_view name_of(ClientState state) noexcept;

/// PROTOCOL 7: every step of a client.
inline constexpr std::array<Transition<ClientState>, 8> kClientTable = {{
    {ClientState::ready, EventKind::start, ClientState::initiating, "7.3"},
    {ClientState::initiating, EventKind::deadline_reached, ClientState::initiating, "7.3"},
    {ClientState::initiating, EventKind::cookie, ClientState::vouching, "7.3"},
    {ClientState::vouching, EventKind::vouch_made, ClientState::vouched, "7.4"},
    {ClientState::vouched, EventKind::message, ClientState::connected, "7.5"},
    {ClientState::vouched, EventKind::deadline_reached, ClientState::vouched, "7.5"},
    {ClientState::vouched, EventKind::start, ClientState::initiating, "7.5"},
    {ClientState::connected, EventKind::stop, ClientState::closed, "7.6"},
}};

/// Whom a client wants to reach.
struct Destination {
    crypto::PublicKey server;
    wire::curvecp::Extensions extensions;
    wire::curvecp::ServerName name;
};

/// The client's end of a CurveCP handshake, with one expected server key. Packets that are not for it change
/// nothing: anybody can send datagrams.
class Client {
  public:
    /// `limit` bounds the whole handshake, up to the server's first Message.
    Client(const Destination& destination, const Timeouts& timeouts, Instant limit) noexcept;

    [[nodiscard]] Actions handle(Event&& event, Instant now);
    [[nodiscard]] Deadline next_deadline() const noexcept { return deadline_; }
    [[nodiscard]] ClientState state() const noexcept;

  private:
    struct Ready {};
    struct Initiating {
        crypto::EphemeralKeyPair keys;
        crypto::SharedKey with_server;  // DH(c', S): seals every Hello, opens the Cookie
        crypto::SendCounter counter;    // of every packet from here on
        Duration patience;              // until the next Hello
    };
    struct Vouching {
        crypto::SharedKey shared;  // DH(c', S')
        crypto::PublicKey client_short;
        crypto::SendCounter counter;
        curvegate::wire::Cookie cookie;
    };
    struct Vouched {};
    struct Connected {};
    struct Closed {};
    using State = std::variant<Ready, Initiating, Vouching, Vouched, Connected, Closed>;

    [[nodiscard]] Actions step(Event&& event, Instant now);
    [[nodiscard]] Actions on_start(event::Start&& start, Instant now);
    [[nodiscard]] Actions say_hello(Initiating& state, Instant now);
    [[nodiscard]] Actions on_cookie(Initiating& state, const wire::curvecp::SealedCookie& cookie,
                                    Instant now);
    [[nodiscard]] Actions on_vouch_made(Vouching& state, const vault::Vouch& made, Instant now);
    [[nodiscard]] Actions on_deadline(Instant now);
    [[nodiscard]] Actions close(Error why);

    Destination destination_;
    Timeouts timeouts_;
    Instant limit_;
    Deadline deadline_;
    State state_;
};

}  // namespace curvegate::handshake::curvecp
