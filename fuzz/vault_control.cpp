// The vault's control socket, both directions, and the records of a rotation: what parses is written back as
// it came, and a state that reads leads to states that read.
#include "harness.hpp"
#include "vault/protocol/control.hpp"
#include "vault/rotation_state.hpp"

#include <sodium.h>

#include <algorithm>
#include <vector>

using namespace curvegate;

namespace {

void step(const vault::Step& after) {
    if (!after) return;
    const auto read = vault::decode_rotation(encode(*after));
    fuzz::must(read.has_value() && *read == *after);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    if (const auto request = vault::parse_control_request(input)) {
        std::vector<Byte> out(vault::kLargestControlRequest);
        fuzz::must(std::ranges::equal(serialise(*request, out), input));
    }
    if (const auto reply = vault::parse_control_reply(input))
        fuzz::must(std::ranges::equal(serialise(*reply), input));
    // A record is the input and its right checksum, else no input would ever read.
    ByteArray<vault::kRotationRecordSize> record = encode(vault::RotationState{});
    std::ranges::copy(Bytes(input).first(std::min(input.size(), record.size())), record.begin());
    ::crypto_generichash(record.data() + record.size() - 32, 32, record.data(), record.size() - 32, nullptr,
                         0);
    if (const auto state = vault::decode_rotation(record)) {
        step(*state);
        step(vault::switch_keys(*state));
        step(vault::finish_rotation(*state));
        step(vault::cancel_rotation(*state));
        step(vault::drop_compromised(*state));
    }
    return 0;
}
