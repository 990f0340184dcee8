#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/message_box.hpp"
#include "crypto/nonce.hpp"
#include "crypto/secret.hpp"
#include "session/errors.hpp"
#include "session/role.hpp"
#include "wire/curve_tun.hpp"

namespace curvegate::session::curve_tun {

/// Bytes in a frame before the payload: length, magic, number, authenticator.
inline constexpr std::size_t kFrameOverhead =
    wire::curve_tun::kFrameHeaderSize + wire::curve_tun::kMessageOverhead;
inline constexpr std::size_t kMaxMessageSize = wire::curve_tun::kMaxMessageSize;

/// Where a direction's numbers begin.
struct FirstNumbers {
    crypto::PacketNumber sent = wire::curve_tun::kFirstMessageNumber;
    crypto::PacketNumber received = wire::curve_tun::kFirstMessageNumber;
};

/// A connected session of curve_tun version 1 (PROTOCOL 5): the two directions' keys and numbers. Seals and
/// opens in place and allocates nothing.
class Session {
  public:
    /// Other first numbers are for tests near the end of the number space. Errors: secrets_full,
    /// memory_not_locked.
    [[nodiscard]] static Result<Session> create(Role own, const crypto::SharedKey& key,
                                                FirstNumbers first = {});
    /// `sends` gives our numbers: a client goes on from its vouch's. The peer's begin at `receives`.
    [[nodiscard]] static Result<Session> create(
        Role own, const crypto::SharedKey& key, crypto::SendCounter&& sends,
        crypto::PacketNumber receives = wire::curve_tun::kFirstMessageNumber);

    /// `frame` is kFrameOverhead bytes to be filled, then the payload, replaced by its ciphertext.
    /// Errors: message_too_long (no number is used), numbers_exhausted.
    [[nodiscard]] Result<> seal_frame(MutableBytes frame);

    /// `packet` is one packet without its frame header. Gives the payload, which lies inside `packet`.
    /// On any error (wire wrong_length, wrong_magic; wrong_number; box_does_not_open) nothing changes and
    /// the connection must be closed.
    [[nodiscard]] Result<MutableBytes> open_packet(MutableBytes packet);

    /// The last number of either direction has been used: both sides close (PROTOCOL 5.3).
    [[nodiscard]] bool exhausted() const noexcept;

  private:
    Session(crypto::SealKey send_key, crypto::OpenKey receive_key, crypto::SendCounter&& sends,
            crypto::PacketNumber receives) noexcept;

    [[nodiscard]] bool none_may_come() const noexcept {
        return expected_.value == crypto::SendCounter::kNever;
    }

    crypto::SealKey send_key_;
    crypto::OpenKey receive_key_;
    crypto::SendCounter send_;
    crypto::PacketNumber expected_;  // the one that the next message must carry; kNever: none may come
};

}  // namespace curvegate::session::curve_tun
