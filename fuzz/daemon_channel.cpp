// What parent and front tell each other: what parses is written back as it came.
#include "daemon/channel.hpp"
#include "harness.hpp"

using namespace curvegate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    if (const auto message = daemon::parse_to_front(input)) fuzz::must(daemon::serialise(*message) == input);
    if (const auto message = daemon::parse_to_parent(input)) fuzz::must(daemon::serialise(*message) == input);
    return 0;
}
