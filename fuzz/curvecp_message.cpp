// CurveCP's message: what parses says the same when it is written and parsed again, and nothing of it lies
// beyond its bytes.
#include "wire/curvecp_message.hpp"
#include "harness.hpp"

using namespace curvegate;
using wire::curvecp::Message;

namespace {

bool says_the_same(const Message& a, const Message& b) {
    if (a.extension.has_value() != b.extension.has_value()) return false;
    if (a.extension &&
        (a.extension->limit != b.extension->limit || a.extension->capabilities != b.extension->capabilities))
        return false;
    return a.id == b.id && a.acked_id == b.acked_id && a.acked == b.acked && a.end == b.end &&
           a.position == b.position && std::ranges::equal(a.block, b.block);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto message = wire::curvecp::parse_message(input);
    if (!message) return 0;
    fuzz::must(message->block.size() <= wire::curvecp::kMaxBlock);
    fuzz::must(message->has_block || (message->block.empty() && !message->extension));
    std::uint64_t last = 0;
    for (const auto& range : message->acked) {
        fuzz::must(range.begin <= range.end && range.end < std::uint64_t{1} << 60 && range.begin >= last);
        last = range.end;
    }
    std::vector<Byte> out(size);
    serialise(*message, out);
    const auto again = wire::curvecp::parse_message(out);
    fuzz::must(again.has_value() && says_the_same(*message, *again));
    return 0;
}
