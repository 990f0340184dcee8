// Frames of a connected session: whatever is changed in a stream of valid ones, what is delivered is the
// beginning of what was sent.
#include "harness.hpp"
#include "support/ends.hpp"

using namespace curvegate;
namespace packets = curvegate::wire::curve_tun;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto key = test::secret_number<crypto::SharedKey>(1);
    auto client = *session::curve_tun::Session::create(session::Role::client, key);
    auto server = *session::curve_tun::Session::create(session::Role::server, key);
    test::Buffer stream;
    const std::array<std::size_t, 4> sizes = {0, 1, 40, 300};
    for (const std::size_t text : sizes) {
        test::Buffer frame(session::curve_tun::kFrameOverhead);
        const auto plain = test::pattern(text);
        frame.insert(frame.end(), plain.begin(), plain.end());
        fuzz::must(client.seal_frame(frame).has_value());
        stream.insert(stream.end(), frame.begin(), frame.end());
    }
    const fuzz::Mutation mutation(input);
    const bool raw = mutation.part(2) == 1;
    const bool changed = raw || mutation.apply(stream);
    if (raw) stream = input;

    std::size_t delivered = 0;
    auto rest = std::span(stream);
    while (rest.size() >= packets::kFrameHeaderSize) {
        const auto length = packets::parse_frame_header(rest.first<packets::kFrameHeaderSize>());
        rest = rest.subspan(packets::kFrameHeaderSize);
        if (length > rest.size()) break;
        test::Buffer packet(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(length));
        const auto text = server.open_packet(packet);
        if (!text) break;
        fuzz::must(delivered < sizes.size() && std::ranges::equal(*text, test::pattern(sizes[delivered])));
        ++delivered;
        rest = rest.subspan(length);
    }
    fuzz::must(changed || delivered == sizes.size());
    return 0;
}
