#pragma once

#include "handshake/curve_tun/machine.hpp"
#include "handshake/steps.hpp"

namespace curvegate::handshake::curve_tun {

enum class ServerState {
    ready,        ///< waits for the hello
    issuing,      ///< the keeper seals a cookie
    answering,    ///< the vault opens the hello and seals the cookie packet
    accepting,    ///< waits for the vouch
    redeeming,    ///< the keeper opens the cookie
    checking,     ///< the vault opens the vouch
    authorising,  ///< the registry decides
    connected,
    closed,
};
inline constexpr std::size_t kServerStates = 9;
[[nodiscard]] std::string_view name_of(ServerState state) noexcept;

/// The server's end of a curve_tun handshake over TCP. A cookie is good on the connection that issued it,
/// once (PROTOCOL 4.5): the machine keeps its nonce and compares.
class Server : public Machine<Server, ServerState, Event, Actions> {
  public:
    /// PROTOCOL 4: every step of a server's handshake.
    [[nodiscard]] static std::span<const Transition> table() noexcept {
        using enum ServerState;
        using enum EventKind;
        static constexpr std::array<Transition, 10> kTable = {{
            {ready, hello, issuing, "4.3", step<&Server::on_hello>},
            {ready, deadline_reached, closed, "4.6", step<&Server::on_no_hello>},
            {issuing, cookie_issued, answering, "4.4", step<&Server::on_cookie_issued>},
            {answering, hello_answered, accepting, "4.4", step<&Server::on_hello_answered>},
            {answering, other_slot, issuing, "4.4", step<&Server::on_other_slot>},
            {accepting, vouch, redeeming, "4.5", step<&Server::on_vouch>},
            {accepting, deadline_reached, closed, "4.6", step<&Server::on_no_vouch>},
            {redeeming, cookie_redeemed, checking, "4.5", step<&Server::on_cookie_redeemed>},
            {checking, vouch_is_good, authorising, "4.6", step<&Server::on_vouch_is_good>},
            {authorising, authorised, connected, "4.6", step<&Server::on_authorised>},
        }};
        return kTable;
    }
    /// PROTOCOL 4.6: what closes it in every state.
    static constexpr auto kClosing =
        closing::join(closing::kAlways<Event>, closing::kRefusals<Event>, closing::kConnection<Event>,
                      std::array{closing::as<Event, event::DeadlineReached, Errc::vault_timeout>});

    /// `slot`: of the server's keys the one to try first.
    Server(vault::KeySlot slot, const Timeouts& timeouts, Instant now) noexcept;

    /// The one packet length that may come now, without frame header; 0: none, leave the bytes in the socket.
    [[nodiscard]] std::size_t expected_packet_size() const noexcept;

  private:
    friend class Machine<Server, ServerState, Event, Actions>;

    // Each state owns what it needs; leaving it wipes the secrets among that.
    struct Ready {};
    struct Issuing {
        wire::curve_tun::SealedHello hello;
    };
    struct Answering {
        wire::curve_tun::SealedHello hello;
        crypto::LongTermNonce cookie_nonce;
    };
    struct Accepting {
        crypto::PublicKey client_short;
        crypto::LongTermNonce cookie_nonce;
    };
    struct Redeeming {
        crypto::PublicKey client_short;
        wire::curve_tun::SealedVouch vouch;
    };
    struct Checking {
        crypto::SharedKey shared;
        crypto::PublicKey client;
    };
    struct Authorising {
        crypto::SharedKey shared;
        crypto::PublicKey client;
    };
    struct Connected {};
    using State = std::variant<Ready, Issuing, Answering, Accepting, Redeeming, Checking, Authorising,
                               Connected, Closed>;

    [[nodiscard]] Actions on_hello(Ready&, event::HelloArrived& arrived, Instant);
    [[nodiscard]] Actions on_no_hello(Ready&, event::DeadlineReached&, Instant);
    [[nodiscard]] Actions on_cookie_issued(Issuing& state, event::CookieIssued& issued, Instant now);
    [[nodiscard]] Actions on_hello_answered(Answering& state, event::HelloAnswered& answered, Instant now);
    [[nodiscard]] Actions on_other_slot(Answering& state, event::OtherSlot& other, Instant);
    [[nodiscard]] Actions on_vouch(Accepting& state, event::VouchArrived& arrived, Instant);
    [[nodiscard]] Actions on_no_vouch(Accepting&, event::DeadlineReached&, Instant);
    [[nodiscard]] Actions on_cookie_redeemed(Redeeming& state, event::CookieRedeemed& redeemed, Instant now);
    [[nodiscard]] Actions on_vouch_is_good(Checking& state, event::VouchIsGood&, Instant);
    [[nodiscard]] Actions on_authorised(Authorising& state, event::Authorised&, Instant);
    [[nodiscard]] Actions issue_cookie(const wire::curve_tun::SealedHello& hello);

    HelloSlot slot_;
    Timeouts timeouts_;
    State state_;
};

}  // namespace curvegate::handshake::curve_tun
