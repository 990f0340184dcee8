// The packets of CurveCP and server names: what parses is written back as it came.
#include "harness.hpp"
#include "wire/curvecp.hpp"

using namespace curvegate;
namespace packets = curvegate::wire::curvecp;

namespace {

template <std::size_t N, class Header>
void check(const Header& header, Bytes from) {
    ByteArray<N> out{};
    serialise(header, out);
    fuzz::must(std::ranges::equal(out, from.first(N)));
}

void check_hello(const packets::SealedHello& hello, Bytes from) {
    ByteArray<packets::kHelloSize> out{};
    serialise(hello, out);
    constexpr std::size_t zeros = packets::kAddressing + 32;  // 64 bytes that nobody reads
    fuzz::must(std::ranges::equal(Bytes(out).first(zeros), from.first(zeros)));
    fuzz::must(std::ranges::equal(Bytes(out).subspan(zeros + 64), from.subspan(zeros + 64)));
}

void check_name(Bytes bytes) {
    if (const auto name = packets::encode_server_name(as_text(bytes)))
        fuzz::must(packets::decode_server_name(*name) == as_text(bytes));
    if (bytes.size() < packets::kServerNameSize) return;
    const packets::ServerName raw{to_array(bytes.first<packets::kServerNameSize>())};
    if (const auto text = packets::decode_server_name(raw))
        fuzz::must(packets::encode_server_name(*text) == raw);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    if (const auto packet = packets::parse_to_server(input)) {
        fuzz::must(size <= packets::kMaxPacket && size % 16 == 0);
        if (const auto* hello = std::get_if<packets::SealedHello>(&*packet)) check_hello(*hello, input);
        if (const auto* initiate = std::get_if<packets::InitiateHeader>(&*packet))
            check<packets::kInitiateHeader>(*initiate, input);
        if (const auto* message = std::get_if<packets::ClientMessageHeader>(&*packet))
            check<packets::kClientMessageHeader>(*message, input);
        fuzz::must(!packets::parse_to_client(input));
    }
    if (const auto packet = packets::parse_to_client(input)) {
        fuzz::must(size == packets::kCookiePacketSize ||
                   (size <= packets::kMaxServerPacket && size % 16 == 0));
        if (const auto* cookie = std::get_if<packets::SealedCookie>(&*packet))
            check<packets::kCookiePacketSize>(*cookie, input);
        if (const auto* message = std::get_if<packets::ServerMessageHeader>(&*packet))
            check<packets::kServerMessageHeader>(*message, input);
    }
    check_name(input);
    return 0;
}
