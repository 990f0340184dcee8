#include "session/curvecp.hpp"

#include "crypto/box.hpp"

namespace curvegate::session::curvecp {
namespace {

namespace wire = wire::curvecp;
using crypto::ShortPurpose;

}  // namespace

crypto::PacketNumber first_number(RandomSource& random) {
    ByteArray<8> number{};
    random.fill(MutableBytes(number).first(6));
    return {load_le<std::uint64_t>(number)};
}

Result<Session> Session::create(Role own, crypto::SharedKey key, const wire::Extensions& extensions,
                                const wire::ClientShort& client_short, crypto::SendCounter&& counter) {
    auto send = crypto::derive_seal_key(key, messages_of(own));
    if (!send) return fail(std::move(send));
    auto receive = crypto::derive_open_key(key, messages_of(other(own)));
    if (!receive) return fail(std::move(receive));
    return Session(own, std::move(key), std::move(*send), std::move(*receive), extensions, client_short,
                   std::move(counter));
}

Session::Session(Role own, crypto::SharedKey key, crypto::SealKey send_key, crypto::OpenKey receive_key,
                 const wire::Extensions& extensions, const wire::ClientShort& client_short,
                 crypto::SendCounter&& counter) noexcept
    : key_(std::move(key)),
      send_key_(std::move(send_key)),
      receive_key_(std::move(receive_key)),
      counter_(std::move(counter)),
      extensions_(extensions),
      client_short_(client_short),
      own_(own) {}

Result<> Session::seal_message(MutableBytes packet) {
    auto number = counter_.next();
    if (!number) return fail(Errc::numbers_exhausted);
    if (own_ == Role::client) {
        wire::serialise(wire::ClientMessageHeader{extensions_, client_short_, number->number()},
                        packet.first<wire::kClientMessageHeader>());
    } else {
        wire::serialise(wire::ServerMessageHeader{extensions_, number->number()},
                        packet.first<wire::kServerMessageHeader>());
    }
    crypto::seal_in_place(send_key_, std::move(*number), wire::number_bytes,
                          packet.subspan(overhead() - crypto::kBoxOverhead));
    return {};
}

Result<> Session::seal_initiate(const Introduction& introduction, MutableBytes packet) {
    auto number = counter_.next();
    if (!number) return fail(Errc::numbers_exhausted);
    wire::serialise(wire::InitiateHeader{extensions_, client_short_, introduction.cookie, number->number()},
                    packet.first<wire::kInitiateHeader>());
    const auto box = packet.subspan(wire::kInitiateHeader);
    Writer body(box.subspan(crypto::kBoxOverhead));
    serialise(introduction.vouch, body.claim<curvegate::wire::kVouchBodySize>());
    body.put(introduction.name.bytes);
    crypto::seal_in_place(
        key_, crypto::Nonce::make(ShortPurpose::initiate, std::move(*number), wire::number_bytes), box);
    return {};
}

Result<Opened> Session::open_message(crypto::PacketNumber number, MutableBytes packet) {
    if (!window_.is_new(number)) return fail(Errc::wrong_number);  // PROTOCOL 7.6
    const auto box =
        packet.subspan(own_ == Role::client ? wire::kServerMessageHeader : wire::kClientMessageHeader);
    if (!crypto::open_in_place(receive_key_, wire::number_bytes(number), box))
        return fail(Errc::box_does_not_open);
    return received(number, box.subspan(crypto::kBoxOverhead));
}

Result<Opened> Session::open_initiate(crypto::PacketNumber number, MutableBytes packet) {
    if (!window_.is_new(number)) return fail(Errc::wrong_number);
    const auto box = packet.subspan(wire::kInitiateHeader);
    const auto nonce = crypto::Nonce::make(ShortPurpose::initiate, wire::number_bytes(number));
    if (!crypto::open_in_place(key_, nonce, box)) return fail(Errc::box_does_not_open);
    return received(number, box.subspan(crypto::kBoxOverhead + wire::kInitiateBody));
}

Opened Session::received(crypto::PacketNumber number, MutableBytes message) noexcept {
    const bool newest = window_.is_newest(number);
    window_.mark(number);
    return {message, newest};
}

}  // namespace curvegate::session::curvecp
