// Audit files: what verifies does so in any pieces, ends in a line behind which a writer goes on, and does
// not verify any more once a byte is changed.
#include "audit/tail.hpp"
#include "audit/verify.hpp"
#include "harness.hpp"

using namespace curvegate;
using namespace curvegate::audit;

namespace {

std::optional<Verifier::Fault> verify(Verifier& verifier, std::string_view bytes, std::size_t piece) {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        if (auto fault = verifier.take(bytes.substr(at, piece))) return fault;
    }
    return verifier.end_file();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    Verifier whole;
    Verifier pieces;
    const auto fault = verify(whole, as_text(input), std::max<std::size_t>(size, 1));
    const auto again = verify(pieces, as_text(input), 7);
    fuzz::must(fault.has_value() == again.has_value());
    if (fault) fuzz::must(fault->line == again->line && fault->why.text() == again->why.text());
    const auto tail = read_tail(as_text(input), Window::whole_file);
    if (fault || size == 0) return 0;
    fuzz::must(tail && tail->torn == 0 && tail->last == whole.summary().last);
    auto changed = input;
    changed[size / 2] = static_cast<Byte>(changed[size / 2] ^ 1);
    Verifier red;
    fuzz::must(verify(red, as_text(changed), 64).has_value());
    return 0;
}
