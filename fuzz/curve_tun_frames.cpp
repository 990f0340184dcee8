// Frames of curve_tun, however their bytes arrive: what is cut out of all bytes at once is what is cut out of
// them one after another, and no byte outside of what came is ever looked at.
#include "wire/curve_tun_frames.hpp"
#include "harness.hpp"

using namespace curvegate;
namespace packets = curvegate::wire::curve_tun;
using What = packets::FrameStart::What;

namespace {

packets::PacketSizes allowed_by(std::uint8_t choice) {
    switch (choice % 4) {
        case 0: return packets::PacketSizes::exactly(packets::kHelloSize);
        case 1: return packets::PacketSizes::exactly(packets::kCookiePacketSize);
        case 2: return packets::PacketSizes::exactly(packets::kVouchSize);
        default: return packets::kMessagesOnly;
    }
}

// The frame at the beginning of `bytes` when only `came` of them are there, in a block of that size.
packets::FrameStart with(Bytes bytes, std::size_t came, packets::PacketSizes allowed) {
    const auto part = fuzz::copy_of(bytes.data(), came);
    return packets::next_frame(part, allowed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const auto allowed = allowed_by(data[0]);
    Bytes rest(data + 1, size - 1);
    for (int frames = 0; frames < 16; ++frames) {
        const auto whole = packets::next_frame(rest, allowed);
        const std::size_t known = std::min(rest.size(), packets::kFrameHeaderSize);
        for (std::size_t came = 0; came < known; ++came) {
            const auto early = with(rest, came, allowed);
            fuzz::must(early.what == What::part && early.frame_size > came);
        }
        if (whole.what == What::bad_length) {
            fuzz::must(with(rest, packets::kFrameHeaderSize, allowed).what == What::bad_length);
            return 0;
        }
        fuzz::must(whole.frame_size >= packets::kFrameHeaderSize + allowed.least);
        fuzz::must(whole.frame_size <= packets::kFrameHeaderSize + allowed.most);
        if (whole.what == What::part) {
            fuzz::must(whole.frame_size > rest.size());
            return 0;
        }
        fuzz::must(with(rest, whole.frame_size - 1, allowed).what == What::part);
        fuzz::must(with(rest, whole.frame_size, allowed).what == What::packet);
        rest = rest.subspan(whole.frame_size);
    }
    return 0;
}
