// The packets of curve_tun and what their boxes hold: what parses is written back as it came.
#include "harness.hpp"
#include "wire/curve_tun.hpp"

using namespace curvegate;
namespace packets = curvegate::wire::curve_tun;

namespace {

template <std::size_t N, class Part>
void check(const Part& part, Bytes from) {
    ByteArray<N> out{};
    serialise(part, out);
    fuzz::must(std::ranges::equal(out, from.first(N)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    if (const auto packet = packets::parse_packet(input)) {
        if (const auto* hello = std::get_if<packets::SealedHello>(&*packet))
            check<packets::kHelloSize>(*hello, input);
        if (const auto* cookie = std::get_if<packets::SealedCookie>(&*packet))
            check<packets::kCookiePacketSize>(*cookie, input);
        if (const auto* vouch = std::get_if<packets::SealedVouch>(&*packet))
            check<packets::kVouchSize>(*vouch, input);
        if (const auto* message = std::get_if<packets::MessageHeader>(&*packet))
            check<packets::kMessageHeaderSize>(*message, input);
    }
    const Bytes bytes(input);
    if (size >= packets::kCookieBodySize) {
        const auto body = packets::parse_cookie_body(bytes.first<packets::kCookieBodySize>());
        if (body) check<packets::kCookieBodySize>(*body, input);
    }
    if (size >= packets::kVouchBodySize) {
        const auto body = packets::parse_vouch_body(bytes.first<packets::kVouchBodySize>());
        if (body) check<packets::kVouchBodySize>(*body, input);
    }
    return 0;
}
