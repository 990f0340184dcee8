#pragma once

#include "handshake/curve_tun/machine.hpp"

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

/// The client's end of a curve_tun handshake over TCP, with one expected server key.
class Client : public Machine<Client, ClientState, Event, Actions> {
  public:
    /// PROTOCOL 4: every step of a client's handshake.
    [[nodiscard]] static std::span<const Transition> table() noexcept {
        using enum ClientState;
        using enum EventKind;
        static constexpr std::array<Transition, 5> kTable = {{
            {ready, start, initiating, "4.3", step<&Client::on_start>},
            {initiating, cookie, vouching, "4.4", step<&Client::on_cookie>},
            {vouching, vouch_made, vouched, "4.5", step<&Client::on_vouch_made>},
            {vouching, deadline_reached, closed, "4.6", step<&Client::on_vault_silent>},
            {vouched, written, connected, "4.5", step<&Client::on_written>},
        }};
        return kTable;
    }
    /// PROTOCOL 4.6: what closes it in every state.
    static constexpr auto kClosing =
        closing::join(closing::kAlways<Event>, closing::kConnection<Event>,
                      std::array{closing::by<Event, event::NotPossible>,
                                 closing::as<Event, event::DeadlineReached, Errc::connect_timeout>});

    /// `deadline` bounds the whole handshake; the vault's answer has its own bound within it.
    Client(const crypto::PublicKey& server, const Timeouts& timeouts, Instant deadline) noexcept;

    /// As Server's.
    [[nodiscard]] std::size_t expected_packet_size() const noexcept;

  private:
    friend class Machine<Client, ClientState, Event, Actions>;

    struct Ready {};
    struct Initiating {
        crypto::EphemeralKeyPair keys;
        crypto::SharedKey with_server;  // DH(ECs, S): made for the hello, opens the cookie
        crypto::SendCounter counter;    // of every packet from the hello on (PROTOCOL 2.3)
    };
    struct Vouching {
        crypto::SharedKey shared;  // DH(ECs, ES)
        wire::Cookie cookie;
        crypto::SendCounter counter;
    };
    struct Vouched {
        crypto::SharedKey shared;
        crypto::SendCounter counter;
    };
    struct Connected {};
    using State = std::variant<Ready, Initiating, Vouching, Vouched, Connected, Closed>;

    [[nodiscard]] Actions on_start(Ready&, event::Start& start, Instant);
    [[nodiscard]] Actions on_cookie(Initiating& state, event::CookieArrived& arrived, Instant now);
    [[nodiscard]] Actions on_vouch_made(Vouching& state, event::VouchMade& made, Instant);
    [[nodiscard]] Actions on_vault_silent(Vouching&, event::DeadlineReached&, Instant now);
    [[nodiscard]] Actions on_written(Vouched& state, event::Written&, Instant);

    crypto::PublicKey server_;
    Timeouts timeouts_;
    Instant limit_;
    State state_;
};

}  // namespace curvegate::handshake::curve_tun
