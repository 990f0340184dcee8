#include "wire/curvecp_message.hpp"

namespace curvegate::wire::curvecp {
namespace {

// PROTOCOL 8.1
constexpr std::uint64_t kLastPosition = (std::uint64_t{1} << 60) - 1;
constexpr unsigned kLengthBits = 2'047;
constexpr unsigned kEof = 2'048;
constexpr unsigned kFailure = 4'096;
constexpr unsigned kFlags = kEof | kFailure;

// PROTOCOL 8.4
constexpr ByteArray<4> kExtensionMagic = {'c', 'g', 'f', '1'};

bool is_legal_length(std::size_t size) noexcept {
    return size >= kMessageHeader && size <= kMaxMessage && size % 16 == 0;
}

StreamEnd end_of(unsigned flags) noexcept {
    if ((flags & kFailure) != 0) return StreamEnd::failure;
    return (flags & kEof) != 0 ? StreamEnd::eof : StreamEnd::none;
}

unsigned flags_of(StreamEnd end) noexcept {
    if (end == StreamEnd::failure) return kFailure;
    return end == StreamEnd::eof ? kEof : 0;
}

std::array<Range, kRanges> parse_ranges(Reader& reader) noexcept {
    std::array<Range, kRanges> out;
    auto end = reader.integer_le<std::uint64_t>();
    out[0] = {0, end};
    if (end > kLastPosition) return out;  // refused by the caller; what follows must not overflow
    for (std::size_t i = 1; i < kRanges; ++i) {
        const std::uint64_t gap =
            i == 1 ? reader.integer_le<std::uint32_t>() : reader.integer_le<std::uint16_t>();
        const std::uint64_t begin = end + gap;
        end = begin + reader.integer_le<std::uint16_t>();
        out[i] = {begin, end};
    }
    return out;
}

void write_ranges(const std::array<Range, kRanges>& ranges, Writer& writer) noexcept {
    std::uint64_t end = ranges[0].end;
    writer.integer_le(end);
    for (std::size_t i = 1; i < kRanges; ++i) {
        const bool used = ranges[i].begin >= end;
        const std::uint64_t gap = used ? ranges[i].begin - end : 0;
        const std::uint64_t size = used ? ranges[i].end - ranges[i].begin : 0;
        if (i == 1) {
            writer.integer_le(static_cast<std::uint32_t>(gap));
        } else {
            writer.integer_le(static_cast<std::uint16_t>(gap));
        }
        writer.integer_le(static_cast<std::uint16_t>(size));
        end += gap + size;
    }
}

std::optional<Extension> parse_extension(Bytes padding) noexcept {
    if (padding.size() < kExtensionSize) return std::nullopt;
    Reader reader(padding);
    if (!std::ranges::equal(reader.take<kExtensionMagic.size()>(), kExtensionMagic)) return std::nullopt;
    const auto capabilities = reader.integer_le<std::uint32_t>();
    return Extension{.limit = reader.integer_le<std::uint64_t>(), .capabilities = capabilities};
}

}  // namespace

Result<Message> parse_message(Bytes message) {
    if (!is_legal_length(message.size())) return fail(Errc::wrong_length);
    Reader reader(message);
    Result<Message> result;
    Message& out = *result;
    out.id = {reader.integer_le<std::uint32_t>()};
    out.acked_id = {reader.integer_le<std::uint32_t>()};
    out.acked = parse_ranges(reader);
    if (out.acked.back().end > kLastPosition || out.acked.front().end > kLastPosition)
        return fail(Errc::wrong_range);
    const unsigned field = reader.integer_le<std::uint16_t>();
    out.position = reader.integer_le<std::uint64_t>();
    const std::size_t length = field & kLengthBits;
    // PROTOCOL 8.1: with an unused flag or a length over 1,024 there is no block.
    out.has_block = (field & ~(kLengthBits | kFlags)) == 0 && length <= kMaxBlock;
    if (!out.has_block) {
        out.position = 0;
        return result;
    }
    if (message.size() < kMessageHeader + length) return fail(Errc::wrong_length);
    if (out.position > kLastPosition - length) return fail(Errc::wrong_range);
    out.end = end_of(field);
    out.block = message.last(length);
    out.extension = parse_extension(reader.rest().first(reader.rest().size() - length));
    return result;
}

void serialise(const Message& message, MutableBytes out) noexcept {
    Writer writer(out);
    writer.integer_le(message.id.value).integer_le(message.acked_id.value);
    write_ranges(message.acked, writer);
    const auto length = static_cast<unsigned>(message.block.size());
    writer.integer_le(static_cast<std::uint16_t>(length | flags_of(message.end)));
    writer.integer_le(message.position);
    if (message.extension) {
        writer.put(kExtensionMagic).integer_le(message.extension->capabilities);
        writer.integer_le(message.extension->limit);
    }
    const auto block = out.last(message.block.size());
    std::ranges::fill(out.subspan(out.size() - writer.left()).first(writer.left() - block.size()), Byte{0});
    // The stream puts a block where it belongs before the header is written.
    if (block.data() != message.block.data()) std::ranges::copy(message.block, block.begin());
}

}  // namespace curvegate::wire::curvecp
