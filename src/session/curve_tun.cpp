#include "session/curve_tun.hpp"

namespace curvegate::session::curve_tun {
namespace wire = wire::curve_tun;

Result<Session> Session::create(Role own, const crypto::SharedKey& key, FirstNumbers first) {
    return create(own, key, crypto::SendCounter(first.sent), first.received);
}

Result<Session> Session::create(Role own, const crypto::SharedKey& key, crypto::SendCounter&& sends,
                                crypto::PacketNumber receives) {
    auto send = crypto::derive_seal_key(key, messages_of(own));
    if (!send) return fail(std::move(send));
    auto receive = crypto::derive_open_key(key, messages_of(other(own)));
    if (!receive) return fail(std::move(receive));
    return Session(std::move(*send), std::move(*receive), std::move(sends), receives);
}

Session::Session(crypto::SealKey send_key, crypto::OpenKey receive_key, crypto::SendCounter&& sends,
                 crypto::PacketNumber receives) noexcept
    : send_key_(std::move(send_key)),
      receive_key_(std::move(receive_key)),
      send_(std::move(sends)),
      expected_(receives) {}

Result<> Session::seal_frame(MutableBytes frame) {
    if (frame.size() > kFrameOverhead + kMaxMessageSize) return fail(Errc::message_too_long);
    auto number = send_.next();
    if (!number) return fail(Errc::numbers_exhausted);
    const auto packet = frame.subspan(wire::kFrameHeaderSize);
    wire::serialise_frame_header(packet.size(), frame.first<wire::kFrameHeaderSize>());
    wire::serialise(wire::MessageHeader{number->number()}, packet.first<wire::kMessageHeaderSize>());
    crypto::seal_in_place(send_key_, std::move(*number), wire::number_bytes,
                          packet.subspan(wire::kMessageHeaderSize));
    return {};
}

Result<MutableBytes> Session::open_packet(MutableBytes packet) {
    const auto header = wire::parse_message_header(packet);
    if (!header) return std::unexpected(header.error());
    if (none_may_come() || header->number != expected_) return fail(Errc::wrong_number);  // PROTOCOL 5.2
    const auto box = packet.subspan(wire::kMessageHeaderSize);
    if (!crypto::open_in_place(receive_key_, wire::number_bytes(header->number), box))
        return fail(Errc::box_does_not_open);
    ++expected_.value;
    return box.subspan(crypto::kBoxOverhead);
}

bool Session::exhausted() const noexcept {
    return send_.exhausted() || none_may_come();
}

}  // namespace curvegate::session::curve_tun
