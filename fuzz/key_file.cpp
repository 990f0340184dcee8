// Key files without a passphrase: the text is wiped whatever came, and header and key agree.
#include "vault/key_file.hpp"
#include "harness.hpp"
#include "support/secrets.hpp"

using namespace curvegate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto input = fuzz::copy_of(data, size);
    const auto header = vault::parse_key_header(as_text(input));
    bool asked = false;
    const auto key = vault::parse_key(input, test::pool(), [&](MutableBytes) -> std::optional<std::size_t> {
        asked = true;
        return std::nullopt;
    });
    fuzz::must(std::ranges::count(input, 0) == static_cast<std::ptrdiff_t>(input.size()));
    if (key) {
        fuzz::must(header && header->role == key->role && header->public_key == key->public_key &&
                   !header->sealed);
    } else {
        fuzz::must(asked == key.error().is(vault::KeyFileErrc::passphrase_needed));
    }
    if (asked) fuzz::must(header && header->sealed);
    return 0;
}
