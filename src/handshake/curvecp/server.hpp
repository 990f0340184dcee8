#pragma once

#include "handshake/curvecp/machine.hpp"

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

/// PROTOCOL 7: every step of a server. A Hello and the Initiate that follows are two machines that know
/// nothing of each other: what the first has to tell the second is in the cookie.
inline constexpr std::array<Transition<ServerState>, 9> kServerTable = {{
    {ServerState::ready, EventKind::hello, ServerState::issuing, "7.3"},
    {ServerState::issuing, EventKind::cookie_issued, ServerState::answering, "7.3"},
    {ServerState::answering, EventKind::hello_answered, ServerState::closed, "7.3"},
    {ServerState::answering, EventKind::other_slot, ServerState::issuing, "7.3"},
    {ServerState::ready, EventKind::vouch, ServerState::redeeming, "7.4"},
    {ServerState::redeeming, EventKind::cookie_redeemed, ServerState::checking, "7.5"},
    {ServerState::checking, EventKind::vouch_is_good, ServerState::authorising, "7.5"},
    {ServerState::authorising, EventKind::authorised, ServerState::claiming, "7.5"},
    {ServerState::claiming, EventKind::cookie_claimed, ServerState::connected, "7.5"},
}};

/// Answers one packet of a client that has no session yet. It waits for nobody but the vault, and whoever
/// asks the vault for it bounds that wait (VaultLost), so it has no deadline of its own.
class Server {
  public:
    /// `slot`: of the server's keys the one to try first for a Hello; of an Initiate the cookie tells.
    /// `first_sent` is the number of a session's first packet: anywhere below 2^48.
    Server(vault::KeySlot slot, crypto::PacketNumber first_sent) noexcept;

    /// The time counts for nothing; as the other machines take it.
    [[nodiscard]] Actions handle(Event&& event, Instant);
    [[nodiscard]] ServerState state() const noexcept;

  private:
    struct Ready {};
    struct Issuing {
        wire::curvecp::SealedHello hello;
        bool again;  // the vault has said whose it is: it is asked no third time
    };
    struct Answering {
        Issuing issued;
    };
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
    struct Closed {};
    using State = std::variant<Ready, Issuing, Answering, Redeeming, Checking, Authorising, Claiming,
                               Connected, Closed>;

    [[nodiscard]] Actions step(Event&& event);
    [[nodiscard]] Actions on_cookie_issued(Issuing& state, const event::CookieIssued& issued);
    [[nodiscard]] Actions on_hello_answered(const Answering& state, const vault::HelloAnswer& answer);
    [[nodiscard]] Actions on_other_slot(const Answering& state, vault::KeySlot slot);
    [[nodiscard]] Actions on_initiate(const event::InitiateArrived& arrived);
    [[nodiscard]] Actions on_cookie_redeemed(Redeeming& state, const cookie::Redeemed& redeemed);
    [[nodiscard]] Actions on_claimed(Claiming& state);
    [[nodiscard]] Actions close(Error why);

    vault::KeySlot slot_;
    crypto::PacketNumber first_sent_;
    State state_;
};

}  // namespace curvegate::handshake::curvecp
