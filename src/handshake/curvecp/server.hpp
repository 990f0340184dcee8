#pragma once

#include "handshake/curvecp/machine.hpp"
#include "handshake/steps.hpp"

namespace curvegate::handshake::curvecp {

enum class ServerState {
    ready,        ///< waits for its one packet: a Hello or an Initiate
    issuing,      ///< Hello: the keeper seals a cookie
    answering,    ///< Hello: the vault opens it and seals the Cookie packet
    redeeming,    ///< Initiate: the keeper opens the cookie
    checking,     ///< the vault opens the vouch
    authorising,  ///< which service, and may this client use it
    claiming,     ///< the keeper takes the cookie
    connected,
    closed,  ///< the Hello is answered, or it all came to nothing: the same silence
};
inline constexpr std::size_t kServerStates = 9;
[[nodiscard]] std::string_view name_of(ServerState state) noexcept;

/// Answers one packet of a client that has no session yet. A Hello and the Initiate that follows are two
/// machines that know nothing of each other: what the first has to tell the second is in the cookie. It waits
/// for nobody but the vault, and whoever asks the vault for it bounds that wait (VaultLost), so it has no
/// deadline.
class Server : public Machine<Server, ServerState, Event, Actions> {
  public:
    /// PROTOCOL 7: every step of a server.
    [[nodiscard]] static std::span<const Transition> table() noexcept {
        using enum ServerState;
        using enum EventKind;
        static constexpr std::array<Transition, 9> kTable = {{
            {ready, hello, issuing, "7.3", step<&Server::on_hello>},
            {issuing, cookie_issued, answering, "7.3", step<&Server::on_cookie_issued>},
            {answering, hello_answered, closed, "7.3", step<&Server::on_hello_answered>},
            {answering, other_slot, issuing, "7.3", step<&Server::on_other_slot>},
            {ready, vouch, redeeming, "7.4", step<&Server::on_initiate>},
            {redeeming, cookie_redeemed, checking, "7.5", step<&Server::on_cookie_redeemed>},
            {checking, vouch_is_good, authorising, "7.5", step<&Server::on_vouch_is_good>},
            {authorising, authorised, claiming, "7.5", step<&Server::on_authorised>},
            {claiming, cookie_claimed, connected, "7.5", step<&Server::on_claimed>},
        }};
        return kTable;
    }
    /// PROTOCOL 7.5: what closes it in every state.
    static constexpr auto kClosing = closing::join(closing::kAlways<Event>, closing::kRefusals<Event>);

    /// `slot`: of the server's keys the one to try first for a Hello; of an Initiate the cookie tells.
    /// `first_sent` is the number of a session's first packet: session::curvecp::first_number().
    Server(vault::KeySlot slot, crypto::PacketNumber first_sent) noexcept;

  private:
    friend class Machine<Server, ServerState, Event, Actions>;

    struct Ready {};
    struct Issuing {
        wire::curvecp::SealedHello hello;
    };
    struct Answering : Issuing {};
    struct Redeeming {
        wire::curvecp::InitiateHeader header;
        ByteArray<wire::curvecp::kMaxPacket - wire::curvecp::kInitiateHeader> box;
        std::size_t box_size;
    };
    /// What the Initiate said, box opened.
    struct Introduced {
        crypto::SharedKey shared;
        crypto::PublicKey client;
        vault::KeySlot slot;
        cookie::Ticket ticket;
        wire::curvecp::InitiateHeader header;
        wire::curvecp::ServerName name;
        ByteArray<wire::curvecp::kMaxInitiateMessage> message;
        std::size_t message_size;
    };
    struct Checking : Introduced {};
    struct Authorising : Introduced {};
    struct Claiming : Introduced {};
    struct Connected {};
    using State = std::variant<Ready, Issuing, Answering, Redeeming, Checking, Authorising, Claiming,
                               Connected, Closed>;

    [[nodiscard]] Actions on_hello(Ready&, event::HelloArrived& arrived, Instant);
    [[nodiscard]] Actions on_cookie_issued(Issuing& state, event::CookieIssued& issued, Instant);
    [[nodiscard]] Actions on_hello_answered(Answering& state, event::HelloAnswered& answered, Instant);
    [[nodiscard]] Actions on_other_slot(Answering& state, event::OtherSlot& other, Instant);
    [[nodiscard]] Actions on_initiate(Ready&, event::InitiateArrived& arrived, Instant);
    [[nodiscard]] Actions on_cookie_redeemed(Redeeming& state, event::CookieRedeemed& redeemed, Instant);
    [[nodiscard]] Actions on_vouch_is_good(Checking& state, event::VouchIsGood&, Instant);
    [[nodiscard]] Actions on_authorised(Authorising& state, event::Authorised&, Instant);
    [[nodiscard]] Actions on_claimed(Claiming& state, event::CookieClaimed&, Instant);
    [[nodiscard]] Actions issue_cookie(const wire::curvecp::SealedHello& hello);

    HelloSlot slot_;
    crypto::PacketNumber first_sent_;
    State state_;
};

}  // namespace curvegate::handshake::curvecp
