#include "session/curvecp.hpp"

#include "crypto/box.hpp"

namespace curvegate::session::curvecp {
namespace {

namespace wire = wire::curvecp;
using crypto::ShortPurpose;

}  // namespace

Session::Session(Role own, crypto::SharedKey key, const wire::Extensions& extensions,
                 const wire::ClientShort& client_short, crypto::SendCounter&& counter) noexcept
    : key_(std::move(key)),
      counter_(std::move(counter)),
      extensions_(extensions),
      client_short_(client_short),
      own_(own) {}

Result<> Session::seal_message(MutableBytes packet) {
    const auto number = counter_.next();
    if (!number) return fail(Errc::numbers_exhausted);
    if (own_ == Role::client) {
        wire::serialise(wire::ClientMessageHeader{extensions_, client_short_, *number},
                        packet.first<wire::kClientMessageHeader>());
        crypto::seal_in_place(key_,
                              crypto::Nonce::make(ShortPurpose::client_message, wire::number_bytes(*number)),
                              packet.subspan(wire::kClientMessageHeader));
    } else {
        wire::serialise(wire::ServerMessageHeader{extensions_, *number},
                        packet.first<wire::kServerMessageHeader>());
        crypto::seal_in_place(key_,
                              crypto::Nonce::make(ShortPurpose::server_message, wire::number_bytes(*number)),
                              packet.subspan(wire::kServerMessageHeader));
    }
    return {};
}

Result<> Session::seal_initiate(const Introduction& introduction, MutableBytes packet) {
    const auto number = counter_.next();
    if (!number) return fail(Errc::numbers_exhausted);
    wire::serialise(wire::InitiateHeader{extensions_, client_short_, introduction.cookie, *number},
                    packet.first<wire::kInitiateHeader>());
    const auto box = packet.subspan(wire::kInitiateHeader);
    Writer body(box.subspan(crypto::kBoxOverhead));
    serialise(introduction.vouch, body.claim<curvegate::wire::kVouchBodySize>());
    body.put(introduction.name.bytes);
    crypto::seal_in_place(key_, crypto::Nonce::make(ShortPurpose::initiate, wire::number_bytes(*number)),
                          box);
    return {};
}

Result<Opened> Session::open_message(crypto::PacketNumber number, MutableBytes packet) {
    if (own_ == Role::client)
        return open(ShortPurpose::server_message, number, packet.subspan(wire::kServerMessageHeader), 0);
    return open(ShortPurpose::client_message, number, packet.subspan(wire::kClientMessageHeader), 0);
}

Result<Opened> Session::open_initiate(crypto::PacketNumber number, MutableBytes packet) {
    return open(ShortPurpose::initiate, number, packet.subspan(wire::kInitiateHeader), wire::kInitiateBody);
}

Result<Opened> Session::open(ShortPurpose purpose, crypto::PacketNumber number, MutableBytes box,
                             std::size_t before_message) {
    if (!window_.is_new(number)) return fail(Errc::wrong_number);  // PROTOCOL 7.6
    if (!crypto::open_in_place(key_, crypto::Nonce::make(purpose, wire::number_bytes(number)), box))
        return fail(Errc::box_does_not_open);
    const bool newest = window_.is_newest(number);
    window_.mark(number);
    return Opened{box.subspan(crypto::kBoxOverhead + before_message), newest};
}

}  // namespace curvegate::session::curvecp
