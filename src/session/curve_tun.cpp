#include "session/curve_tun.hpp"

#include "crypto/box.hpp"

namespace curvegate::session::curve_tun {
namespace wire = wire::curve_tun;

Session::Session(Role own, crypto::SharedKey key) noexcept
    : Session(own, std::move(key), wire::kFirstMessageNumber, wire::kFirstMessageNumber) {}

Session::Session(Role own, crypto::SharedKey key, crypto::PacketNumber first_sent,
                 crypto::PacketNumber first_received) noexcept
    : key_(std::move(key)),
      send_(first_sent),
      receive_(first_received),
      expected_(receive_.next()),
      send_purpose_(own == Role::client ? crypto::ShortPurpose::client_message
                                        : crypto::ShortPurpose::server_message),
      receive_purpose_(own == Role::client ? crypto::ShortPurpose::server_message
                                           : crypto::ShortPurpose::client_message) {}

Result<> Session::seal_frame(MutableBytes frame) {
    if (frame.size() > kFrameOverhead + kMaxMessageSize) return fail(Errc::message_too_long);
    const auto number = send_.next();
    if (!number) return fail(Errc::numbers_exhausted);
    const auto packet = frame.subspan(wire::kFrameHeaderSize);
    wire::serialise_frame_header(packet.size(), frame.first<wire::kFrameHeaderSize>());
    wire::serialise(wire::MessageHeader{*number}, packet.first<wire::kMessageHeaderSize>());
    crypto::seal_in_place(key_, crypto::Nonce::make(send_purpose_, wire::number_bytes(*number)),
                          packet.subspan(wire::kMessageHeaderSize));
    return {};
}

Result<MutableBytes> Session::open_packet(MutableBytes packet) {
    const auto header = wire::parse_message_header(packet);
    if (!header) return std::unexpected(header.error());
    if (!expected_ || header->number != *expected_) return fail(Errc::wrong_number);  // PROTOCOL 5.2
    const auto box = packet.subspan(wire::kMessageHeaderSize);
    const auto nonce = crypto::Nonce::make(receive_purpose_, wire::number_bytes(header->number));
    if (!crypto::open_in_place(key_, nonce, box)) return fail(Errc::box_does_not_open);
    expected_ = receive_.next();
    return box.subspan(crypto::kBoxOverhead);
}

bool Session::exhausted() const noexcept {
    return send_.exhausted() || !expected_;
}

}  // namespace curvegate::session::curve_tun
