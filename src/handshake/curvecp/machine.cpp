#include "handshake/curvecp/machine.hpp"

namespace curvegate::handshake::curvecp {
namespace {

struct KindOfOurs : KindOf {
    using KindOf::operator();
    EventKind operator()(const event::Start&) const noexcept { return EventKind::start; }
    EventKind operator()(const event::HelloArrived&) const noexcept { return EventKind::hello; }
    EventKind operator()(const event::InitiateArrived&) const noexcept { return EventKind::vouch; }
    EventKind operator()(const event::CookieArrived&) const noexcept { return EventKind::cookie; }
    EventKind operator()(const event::Confirmed&) const noexcept { return EventKind::message; }
    EventKind operator()(const event::CookieClaimed&) const noexcept { return EventKind::cookie_claimed; }
};

}  // namespace

EventKind kind_of(const Event& event) noexcept {
    return std::visit(KindOfOurs{}, event);
}

std::optional<Error> reason_to_close(const Event& event) {
    switch (kind_of(event)) {
        case EventKind::cookie_refused: return local_fault(std::get<event::CookieRefused>(event).why);
        case EventKind::not_possible: return local_fault(std::get<event::NotPossible>(event).why);
        case EventKind::vault_refused: return meaning_of(std::get<event::VaultRefused>(event).status);
        case EventKind::vault_lost:
            return Error(Errc::vault_unavailable, std::get<event::VaultLost>(event).why);
        case EventKind::not_authorised:
            return Error(Errc::not_authorised, std::get<event::NotAuthorised>(event).why);
        case EventKind::stop: return Errc::stopped;
        default: return std::nullopt;
    }
}

}  // namespace curvegate::handshake::curvecp
