#pragma once

#include "wire/curve_tun.hpp"

/// Where packets begin and end in the bytes of a TCP connection (PROTOCOL 3). Holds no bytes and does no I/O:
/// whoever reads the socket keeps what is not a whole frame yet.
namespace curvegate::wire::curve_tun {

/// Which packets may come now, in bytes without the frame header.
struct PacketSizes {
    std::size_t least;
    std::size_t most;
    [[nodiscard]] static constexpr PacketSizes exactly(std::size_t size) noexcept { return {size, size}; }
};
inline constexpr PacketSizes kMessagesOnly{kMessageOverhead, kMaxPacketSize};

/// What the bytes that have come begin with.
struct FrameStart {
    enum class What {
        packet,      ///< a whole one: it stands behind the header
        part,        ///< less than a frame
        bad_length,  ///< a length that may not come now: nothing behind it is waited for
    };
    What what;
    /// Bytes with the header. packet: of the frame. part: that the whole will have, at least.
    std::size_t frame_size;
};

/// Looks at the beginning of `bytes`. A length is refused when its two bytes are known.
[[nodiscard]] inline FrameStart next_frame(Bytes bytes, PacketSizes allowed) noexcept {
    if (bytes.size() < kFrameHeaderSize) return {FrameStart::What::part, kFrameHeaderSize + allowed.least};
    const std::size_t packet = parse_frame_header(bytes.first<kFrameHeaderSize>());
    const std::size_t frame = kFrameHeaderSize + packet;
    if (packet < allowed.least || packet > allowed.most) return {FrameStart::What::bad_length, frame};
    return {bytes.size() < frame ? FrameStart::What::part : FrameStart::What::packet, frame};
}

}  // namespace curvegate::wire::curve_tun
