#pragma once

#include "handshake/machine.hpp"

#include <optional>

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

/// PROTOCOL 4: every step of a server's handshake. What is not listed meets undeclared().
inline constexpr std::array<Transition<ServerState>, 9> kServerTable = {{
    {ServerState::ready, EventKind::hello, ServerState::issuing, "4.3"},
    {ServerState::issuing, EventKind::cookie_issued, ServerState::answering, "4.4"},
    {ServerState::answering, EventKind::hello_answered, ServerState::accepting, "4.4"},
    {ServerState::answering, EventKind::other_slot, ServerState::issuing, "4.4"},
    {ServerState::accepting, EventKind::vouch, ServerState::redeeming, "4.5"},
    {ServerState::redeeming, EventKind::cookie_redeemed, ServerState::checking, "4.5"},
    {ServerState::checking, EventKind::vouch_is_good, ServerState::authorising, "4.6"},
    {ServerState::authorising, EventKind::authorised, ServerState::connected, "4.6"},
    {ServerState::connected, EventKind::stop, ServerState::closed, "5.5"},
}};

/// The server's end of a curve_tun handshake over TCP. A cookie is good on the connection that issued it,
/// once (PROTOCOL 4.5): the machine keeps its nonce and compares.
class Server {
  public:
    /// `slot`: of the server's keys the one to try first.
    Server(vault::KeySlot slot, const Timeouts& timeouts, Instant now) noexcept;

    [[nodiscard]] Actions handle(Event&& event, Instant now);
    [[nodiscard]] Deadline next_deadline() const noexcept { return deadline_; }
    [[nodiscard]] ServerState state() const noexcept;
    /// The one packet length that may come now, without frame header; 0: none, leave the bytes in the socket.
    [[nodiscard]] std::size_t expected_packet_size() const noexcept;

  private:
    // Each state owns what it needs; leaving it wipes the secrets among that.
    struct Ready {};
    struct Issuing {
        wire::curve_tun::SealedHello hello;
        bool again;  // the vault has said whose it is: it is asked no third time
    };
    struct Answering {
        Issuing issued;
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
    struct Closed {};
    using State = std::variant<Ready, Issuing, Answering, Accepting, Redeeming, Checking, Authorising,
                               Connected, Closed>;

    [[nodiscard]] Actions step(Event&& event, Instant now);
    [[nodiscard]] Actions on_hello(const wire::curve_tun::SealedHello& hello);
    [[nodiscard]] Actions on_cookie_issued(Issuing& state, const event::CookieIssued& issued, Instant now);
    [[nodiscard]] Actions on_hello_answered(Answering& state, const vault::HelloAnswer& answer, Instant now);
    [[nodiscard]] Actions on_other_slot(const Answering& state, vault::KeySlot slot);
    [[nodiscard]] Actions on_vouch(Accepting& state, const wire::curve_tun::SealedVouch& vouch);
    [[nodiscard]] Actions on_cookie_redeemed(Redeeming& state, const crypto::CookieContents& contents,
                                             Instant now);
    [[nodiscard]] Actions close(Error why);
    [[nodiscard]] Error timeout_reason() const noexcept;

    vault::KeySlot slot_;  // that of the hello, as soon as that is known
    Timeouts timeouts_;
    Deadline deadline_;
    State state_;
};

}  // namespace curvegate::handshake::curve_tun
