#include "handshake/events.hpp"

namespace curvegate::handshake {

std::string_view name_of(EventKind kind) noexcept {
    constexpr std::array<std::string_view, kEventKinds> names = {
        "start",         "hello",           "cookie",
        "vouch",         "message",         "packet_refused",
        "cookie_issued", "cookie_redeemed", "cookie_refused",
        "not_possible",  "hello_answered",  "other_slot",
        "vouch_made",    "vouch_is_good",   "vault_refused",
        "vault_lost",    "authorised",      "not_authorised",
        "written",       "peer_closed",     "deadline_reached",
        "stop",          "cookie_claimed"};
    return names[static_cast<std::size_t>(kind)];
}

Error undeclared(EventKind kind) {
    if (is_packet(kind)) return Errc::unexpected_packet;
    return {Errc::bug, std::string(name_of(kind))};
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
