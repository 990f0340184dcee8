#include "service/address.hpp"

namespace curvegate::service {
namespace {

/// What stands before host and port, or before "systemd:".
std::string head_of(const Address& address) {
    if (address.wire) return std::string(word(*address.wire)) + ":";
    return address.kind == Address::Kind::udp ? "udp:" : "";
}

}  // namespace

std::string Address::text() const {
    if (kind == Kind::none) return "none";
    if (kind == Kind::unix_socket) return "unix:" + path;
    if (kind == Kind::seqpacket) return "seqpacket:" + path;
    if (!passed.empty()) return head_of(*this) + "systemd:" + passed;
    return head_of(*this) + (host.contains(':') ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

PlainSide plain_side(const Address& plain) noexcept {
    switch (plain.kind) {
        case Address::Kind::udp: return PlainSide::datagrams;
        case Address::Kind::seqpacket: return PlainSide::records;
        case Address::Kind::tcp:
        case Address::Kind::unix_socket:
        case Address::Kind::none: return PlainSide::stream;
    }
    return PlainSide::stream;
}

}  // namespace curvegate::service
