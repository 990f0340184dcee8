#include "handshake/curve_tun/machine.hpp"

namespace curvegate::handshake::curve_tun {
namespace {

namespace wire = wire::curve_tun;

template <std::size_t kSize, class Packet>
action::Send send_of(const Packet& packet) noexcept {
    action::Send out{{}, kSize};
    serialise(packet, MutableBytes(out.bytes).first<kSize>());
    return out;
}

}  // namespace

Event arrived(const wire::Packet& packet) {
    struct Meaning {
        Event operator()(const wire::SealedHello& hello) const { return event::HelloArrived{hello}; }
        Event operator()(const wire::SealedCookie& cookie) const { return event::CookieArrived{cookie}; }
        Event operator()(const wire::SealedVouch& vouch) const { return event::VouchArrived{vouch}; }
        Event operator()(const wire::MessageHeader& header) const { return event::MessageArrived{header}; }
    };
    return std::visit(Meaning{}, packet);
}

action::Send send(const wire::SealedHello& hello) noexcept {
    return send_of<wire::kHelloSize>(hello);
}
action::Send send(const wire::SealedCookie& cookie) noexcept {
    return send_of<wire::kCookiePacketSize>(cookie);
}
action::Send send(const wire::SealedVouch& vouch) noexcept {
    return send_of<wire::kVouchSize>(vouch);
}

}  // namespace curvegate::handshake::curve_tun
