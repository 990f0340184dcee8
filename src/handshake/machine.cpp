#include "handshake/machine.hpp"

namespace curvegate::handshake {
namespace {

struct KindOf {
    EventKind operator()(const event::Start&) const { return EventKind::start; }
    EventKind operator()(const event::PacketArrived& arrived) const {
        constexpr std::array kinds = {EventKind::hello, EventKind::cookie, EventKind::vouch,
                                      EventKind::message};
        static_assert(kinds.size() == std::variant_size_v<wire::curve_tun::Packet>);
        return kinds[arrived.packet.index()];
    }
    EventKind operator()(const event::PacketRefused&) const { return EventKind::packet_refused; }
    EventKind operator()(const event::CookieIssued&) const { return EventKind::cookie_issued; }
    EventKind operator()(const event::CookieRedeemed&) const { return EventKind::cookie_redeemed; }
    EventKind operator()(const event::CookieRefused&) const { return EventKind::cookie_refused; }
    EventKind operator()(const event::HelloAnswered&) const { return EventKind::hello_answered; }
    EventKind operator()(const event::VouchMade&) const { return EventKind::vouch_made; }
    EventKind operator()(const event::VouchIsGood&) const { return EventKind::vouch_is_good; }
    EventKind operator()(const event::VaultRefused&) const { return EventKind::vault_refused; }
    EventKind operator()(const event::VaultLost&) const { return EventKind::vault_lost; }
    EventKind operator()(const event::Authorised&) const { return EventKind::authorised; }
    EventKind operator()(const event::NotAuthorised&) const { return EventKind::not_authorised; }
    EventKind operator()(const event::Written&) const { return EventKind::written; }
    EventKind operator()(const event::PeerClosed&) const { return EventKind::peer_closed; }
    EventKind operator()(const event::DeadlineReached&) const { return EventKind::deadline_reached; }
    EventKind operator()(const event::Stop&) const { return EventKind::stop; }
};

}  // namespace

EventKind kind_of(const Event& event) noexcept {
    return std::visit(KindOf{}, event);
}

std::string_view name_of(EventKind kind) noexcept {
    constexpr std::array<std::string_view, kEventKinds> names = {
        "start",          "hello",          "cookie",           "vouch",
        "message",        "packet_refused", "cookie_issued",    "cookie_redeemed",
        "cookie_refused", "hello_answered", "vouch_made",       "vouch_is_good",
        "vault_refused",  "vault_lost",     "authorised",       "not_authorised",
        "written",        "peer_closed",    "deadline_reached", "stop"};
    return names[static_cast<std::size_t>(kind)];
}

Error undeclared(EventKind kind) {
    switch (kind) {
        case EventKind::hello:
        case EventKind::cookie:
        case EventKind::vouch:
        case EventKind::message: return Errc::unexpected_packet;
        default: return {Errc::bug, std::string(name_of(kind))};
    }
}

Error meaning_of(vault::Status status) {
    switch (status) {
        case vault::Status::box_does_not_open: return Errc::hello_refused;
        case vault::Status::vouch_is_wrong: return Errc::vouch_refused;
        case vault::Status::weak_key: return crypto::Errc::weak_key;
        default: return {Errc::vault_unavailable, std::string(describe(status))};
    }
}

Error local_fault(const Error& why) {
    const bool memory = why.is(crypto::Errc::secrets_full) || why.is(crypto::Errc::memory_not_locked);
    return memory ? Error(Errc::no_secret_memory) : why;
}

}  // namespace curvegate::handshake
