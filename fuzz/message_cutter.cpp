// Messages in a stream, however its bytes arrive: cut out of pieces of any size they are what they are in the
// whole, none that lies in one piece is copied, and behind a length that is too great nothing is taken.
#include "wire/message_cutter.hpp"
#include "harness.hpp"

using namespace curvegate;
using wire::MessageCutter;
using What = MessageCutter::Cut::What;

namespace {

/// What a stream is found to consist of.
struct Found {
    std::vector<std::vector<Byte>> messages;
    bool bad_length = false;
    std::size_t taken = 0;  // bytes
    friend bool operator==(const Found&, const Found&) = default;
};

// The same without pieces, as PROTOCOL 10.1 says it.
Found expected(Bytes stream, std::size_t most) {
    Found out;
    while (stream.size() - out.taken >= 4) {
        const Bytes rest = stream.subspan(out.taken);
        const std::size_t size = load_le<std::uint32_t>(rest.first<4>());
        out.bad_length = size > most;
        if (out.bad_length) {
            out.taken += 4;
            return out;
        }
        if (rest.size() - 4 < size) break;
        out.messages.emplace_back(rest.begin() + 4, rest.begin() + 4 + static_cast<std::ptrdiff_t>(size));
        out.taken += 4 + size;
    }
    out.taken = stream.size();
    return out;
}

// All that a piece holds, which lies in a block of exactly its size.
void cut_piece(MessageCutter& cutter, Bytes piece, std::size_t most, Found& found) {
    bool first = true;
    while (!piece.empty() && !found.bad_length) {
        const auto cut = cutter.next(piece);
        fuzz::must(cut.size > 0 && cut.size <= piece.size());
        if (cut.what == What::in_place) fuzz::must(cut.message().data() == piece.data() + 4);
        if (cut.what == What::in_place) fuzz::must(cut.size == cut.message().size() + 4);
        if (cut.what == What::put_together) fuzz::must(first && cut.whole.capacity() <= most);
        if (cut.what == What::part) fuzz::must(cut.size == piece.size());
        if (cut.what == What::in_place || cut.what == What::put_together)
            found.messages.emplace_back(cut.message().begin(), cut.message().end());
        found.bad_length = cut.what == What::bad_length;
        found.taken += cut.size;
        piece = piece.subspan(cut.size);
        first = false;
    }
}

// In pieces whose sizes are one more than these bytes, over and over.
Found in_pieces(Bytes stream, Bytes sizes, std::size_t most) {
    MessageCutter cutter(most);
    Found out;
    for (std::size_t at = 0, i = 0; at < stream.size() && !out.bad_length; ++i) {
        const std::size_t size = std::min<std::size_t>(stream.size() - at, sizes[i % sizes.size()] + 1U);
        cut_piece(cutter, fuzz::copy_of(stream.data() + at, size), most, out);
        at += size;
    }
    if (out.bad_length) {
        const auto more = cutter.next(stream);
        fuzz::must(more.what == What::bad_length && more.size == 0);
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 4) return 0;
    const std::size_t most = data[0];
    const Bytes sizes(data + 1, 3);
    const auto stream = fuzz::copy_of(data + 4, size - 4);
    const auto whole = expected(stream, most);
    Found at_once;
    MessageCutter cutter(most);
    cut_piece(cutter, stream, most, at_once);
    fuzz::must(at_once == whole);
    fuzz::must(in_pieces(stream, sizes, most) == whole);
    fuzz::must(in_pieces(stream, ByteArray<1>{0}, most) == whole);
    return 0;
}
