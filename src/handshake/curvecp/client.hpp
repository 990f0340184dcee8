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

/// Whom a client wants to reach.
struct Destination {
    crypto::PublicKey server;
    wire::curvecp::Extensions extensions;
    wire::curvecp::ServerName name;
};

/// The client's end of a CurveCP handshake, with one expected server key. Packets that are not for it change
/// nothing: anybody can send datagrams.
class Client : public Machine<Client, ClientState, Event, Actions> {
  public:
    /// PROTOCOL 7: every step of a client.
    [[nodiscard]] static std::span<const Transition> table() noexcept {
        using enum ClientState;
        using enum EventKind;
        static constexpr std::array<Transition, 8> kTable = {{
            {ready, start, initiating, "7.3", step<&Client::on_start>},
            {initiating, deadline_reached, initiating, "7.3", step<&Client::on_no_cookie>},
            {initiating, cookie, vouching, "7.3", step<&Client::on_cookie>},
            {vouching, vouch_made, vouched, "7.4", step<&Client::on_vouch_made>},
            {vouching, deadline_reached, closed, "7.5", step<&Client::on_vault_silent>},
            {vouched, message, connected, "7.5", step<&Client::on_confirmed>},
            {vouched, deadline_reached, vouched, "7.5", step<&Client::on_no_answer>},
            {vouched, start, initiating, "7.5", step<&Client::on_start_afresh>},
        }};
        return kTable;
    }
    /// PROTOCOL 7.5: what closes it in every state.
    static constexpr auto kClosing =
        closing::join(closing::kAlways<Event>, closing::kRefusals<Event>,
                      std::array{closing::as<Event, event::DeadlineReached, Errc::connect_timeout>});

    /// `limit` bounds the whole handshake, up to the server's first Message.
    Client(const Destination& destination, const Timeouts& timeouts, Instant limit) noexcept;

  private:
    friend class Machine<Client, ClientState, Event, Actions>;

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
    using State = std::variant<Ready, Initiating, Vouching, Vouched, Connected, Closed>;

    [[nodiscard]] Actions on_start(Ready&, event::Start& start, Instant now);
    [[nodiscard]] Actions on_no_cookie(Initiating& state, event::DeadlineReached&, Instant now);
    [[nodiscard]] Actions on_cookie(Initiating& state, event::CookieArrived& arrived, Instant now);
    [[nodiscard]] Actions on_vouch_made(Vouching& state, event::VouchMade& made, Instant now);
    [[nodiscard]] Actions on_vault_silent(Vouching&, event::DeadlineReached&, Instant now);
    [[nodiscard]] Actions on_confirmed(Vouched&, event::Confirmed&, Instant);
    [[nodiscard]] Actions on_no_answer(Vouched&, event::DeadlineReached&, Instant now);
    [[nodiscard]] Actions on_start_afresh(Vouched&, event::Start& start, Instant now);
    [[nodiscard]] Actions begin(event::Start& start, Instant now);
    [[nodiscard]] Actions say_hello(Initiating& state, Instant now);
    /// A stray packet is dropped: anybody can send one.
    [[nodiscard]] Actions refuse(Error why);

    Destination destination_;
    Timeouts timeouts_;
    Instant limit_;
    State state_;
};

}  // namespace curvegate::handshake::curvecp
