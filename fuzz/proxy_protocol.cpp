// The PROXY protocol: once a beginning has been judged, no further byte changes the judgement; a header ends
// where it says; addresses are written as they were read; what we write is never too long.
#include "wire/proxy_protocol.hpp"
#include "harness.hpp"

using namespace curvegate;
namespace proxy = curvegate::wire::proxy;

namespace {

using Parsed = Result<std::optional<proxy::Header>>;

bool is_open(const Parsed& parsed) {
    return parsed && !*parsed;
}

void check_beginnings(Bytes input, const Parsed& whole) {
    const std::size_t end = whole && *whole ? (*whole)->size : input.size();
    const std::size_t most = std::min(end, proxy::kMaxHeaderSize);
    bool open = true;
    for (std::size_t size = 0; size < most; ++size) {
        const auto parsed = proxy::parse(fuzz::copy_of(input.data(), size));
        if (!is_open(parsed)) open = false;
        fuzz::must(open == is_open(parsed));
        fuzz::must(open || !parsed);  // only the last byte makes a header
    }
    if (whole) fuzz::must(open);
}

void check_written(const proxy::Introduction& introduction) {
    const auto written = proxy::serialise(introduction);
    const auto read = proxy::parse(written);
    fuzz::must(written.size() <= proxy::kMaxHeaderSize && read && *read && (*read)->size == written.size());
    fuzz::must((*read)->addresses.has_value() == introduction.addresses.has_value());
    if (!introduction.addresses) return;
    const auto& [source, destination] = *introduction.addresses;
    fuzz::must((*read)->addresses->source == source);
    // Zeros stand for "not known" in either family.
    if (destination.address != IpAddress{}) fuzz::must((*read)->addresses->destination == destination);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto whole = proxy::parse(input);
    check_beginnings(input, whole);
    fuzz::must(!is_open(whole) || input.size() < proxy::kMaxHeaderSize);
    if (!whole || !*whole) return 0;

    const proxy::Header& header = **whole;
    fuzz::must(header.size <= input.size() && header.size <= proxy::kMaxHeaderSize);
    const auto text = as_text(Bytes(input).subspan(header.size));
    const auto half = text.size() / 2;
    check_written({header.addresses, text.substr(0, half), {}, text.substr(half)});
    return 0;
}
