#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "wire/errors.hpp"

#include <array>
#include <cstdint>
#include <optional>

/// What stands inside the box of an Initiate or a Message: CurveCP's message (PROTOCOL 8).
namespace curvegate::wire::curvecp {

inline constexpr std::size_t kMessageHeader = 48;
inline constexpr std::size_t kMaxMessage = 1'088;        ///< in a Message packet
inline constexpr std::size_t kMaxInitiateMessage = 640;  ///< in an Initiate packet
inline constexpr std::size_t kMaxBlock = 1'024;
inline constexpr std::size_t kFirstBlock = 512;    ///< a client's, until it has heard the server
inline constexpr std::size_t kRanges = 6;          ///< the first begins at 0
inline constexpr std::size_t kExtensionSize = 16;  ///< our TLV in the padding

/// Names a transmission; 0 on the wire means none.
struct MessageId {
    std::uint32_t value = 0;
    friend auto operator<=>(const MessageId&, const MessageId&) = default;
};

/// Bytes [begin, end) of the stream.
struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    friend bool operator==(const Range&, const Range&) = default;
};

enum class StreamEnd : std::uint8_t { none, eof, failure };

/// What our own ends tell each other in the padding, which the reference ignores (PROTOCOL 8.4).
struct Extension {
    std::uint64_t limit = 0;         ///< stream bytes [0, limit) may be sent
    std::uint32_t capabilities = 0;  ///< none yet
};

/// One parsed message. `block` lies in the parsed bytes.
struct Message {
    MessageId id;                        ///< 0: a pure acknowledgment
    MessageId acked_id;                  ///< 0: none
    std::array<Range, kRanges> acked{};  ///< ascending; empty ones are unused. acked[0].begin is 0
    bool has_block = false;  ///< false: unused flag values; there is nothing to store or acknowledge
    StreamEnd end = StreamEnd::none;
    std::uint64_t position = 0;  ///< of the block's first byte
    Bytes block;                 ///< 0 to 1,024 bytes
    std::optional<Extension> extension;
};

/// Errors: wrong_length (not 48..1088, not a multiple of 16, or shorter than 48 + block); wrong_range (a
/// range or block that passes 2^60-1).
[[nodiscard]] Result<Message> parse_message(Bytes message);

/// The smallest legal message for a block of `block` bytes and our extension.
[[nodiscard]] constexpr std::size_t message_size(std::size_t block) noexcept {
    return (kMessageHeader + kExtensionSize + block + 15) / 16 * 16;
}
/// The smallest legal size of this message, which may lack the extension.
[[nodiscard]] constexpr std::size_t message_size(const Message& message) noexcept {
    return message_size(message.block.size()) - (message.extension ? 0 : kExtensionSize);
}
/// Fills `out` (its size is the message's: message_size() or larger legal one), block last, zeros between.
/// Ranges beyond the first must be ascending and fit their fields (gap 2: 32 bits, other gaps and sizes: 16).
void serialise(const Message& message, MutableBytes out) noexcept;

}  // namespace curvegate::wire::curvecp
