// What strangers call themselves goes into log, status and audit: whatever the bytes, what is shown is one
// line of UTF-8 without anything that is not seen, and a reader of JSON gets back what was said, with U+FFFD
// for each byte that is no UTF-8.
#include "base/json.hpp"
#include "base/utf8.hpp"
#include "harness.hpp"

using namespace curvegate;

namespace {

/// The bytes of the character at the beginning, by the table of RFC 3629, 4; 0: there is none.
std::size_t well_formed(Bytes text) {
    const auto is = [&](std::size_t at, unsigned low, unsigned high) {
        return at < text.size() && text[at] >= low && text[at] <= high;
    };
    const auto tails = [&](std::size_t from, std::size_t to) {
        for (; from < to; ++from) {
            if (!is(from, 0x80, 0xbf)) return std::size_t{0};
        }
        return to;
    };
    if (is(0, 0x00, 0x7f)) return 1;
    if (is(0, 0xc2, 0xdf)) return tails(1, 2);
    const bool three = (is(0, 0xe0, 0xe0) && is(1, 0xa0, 0xbf)) || (is(0, 0xed, 0xed) && is(1, 0x80, 0x9f)) ||
                       ((is(0, 0xe1, 0xec) || is(0, 0xee, 0xef)) && is(1, 0x80, 0xbf));
    if (three) return tails(2, 3);
    const bool four = (is(0, 0xf0, 0xf0) && is(1, 0x90, 0xbf)) || (is(0, 0xf1, 0xf3) && is(1, 0x80, 0xbf)) ||
                      (is(0, 0xf4, 0xf4) && is(1, 0x80, 0x8f));
    return four ? tails(2, 4) : 0;
}

/// What stands between the quotes, read back as a reader of JSON does.
std::string read_back(std::string_view shown) {
    const auto unit = [&] {
        fuzz::must(shown.size() >= 6 && shown.starts_with("\\u"));
        const char32_t value =
            static_cast<char32_t>(std::stoul(std::string(shown.substr(2, 4)), nullptr, 16));
        shown.remove_prefix(6);
        return value;
    };
    std::string out;
    while (!shown.empty()) {
        const std::size_t size = well_formed(as_bytes(shown));
        fuzz::must(size != 0 && shown[0] != '"' && !is_control(first_of(shown).value));
        if (shown[0] != '\\') {
            out += shown.substr(0, size);
            shown.remove_prefix(size);
        } else if (shown.starts_with("\\\\") || shown.starts_with("\\\"")) {
            out += shown[1];
            shown.remove_prefix(2);
        } else {
            char32_t value = unit();
            if (value >= 0xd800 && value < 0xdc00)
                value = 0x1'0000 + ((value - 0xd800) << 10) + (unit() - 0xdc00);
            append_utf8(out, value);
        }
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    std::string said;
    for (Bytes rest = input; !rest.empty();) {
        const std::size_t good = well_formed(rest);
        said += good != 0 ? as_text(rest.first(good)) : "\xef\xbf\xbd";
        rest = rest.subspan(std::max(good, std::size_t{1}));
    }
    std::string shown;
    append_escaped(shown, as_text(input));
    fuzz::must(read_back(shown) == said);
    fuzz::must(JsonWriter().text(as_text(input)).take() == '"' + shown + '"');
    return 0;
}
