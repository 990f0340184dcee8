#pragma once

#include "base/bytes.hpp"

#include <vector>

/// Messages in a stream of bytes (PROTOCOL 10.1): each is its length in 4 bytes, little-endian, then its
/// bytes.
namespace curvegate::wire {

inline constexpr std::size_t kMessageLengthSize = 4;

/// What goes before a message of `size` bytes, less than 2^32.
[[nodiscard]] constexpr ByteArray<kMessageLengthSize> serialise_message_length(std::size_t size) noexcept {
    return to_le(static_cast<std::uint32_t>(size));
}

/// Cuts a stream that comes in pieces of any size into its messages. A message that lies whole in one piece
/// is not copied; of the others the beginning of one is kept, and nothing else. Does no I/O.
class MessageCutter {
  public:
    /// No message is longer than `most` bytes.
    explicit MessageCutter(std::size_t most) noexcept : most_(most) {}

    /// What a piece begins with.
    struct Cut {
        enum class What {
            part,          ///< of a message: it has been copied, and the next piece goes on with it
            in_place,      ///< a message that lies whole in the piece
            put_together,  ///< the end of a message; the piece's bytes have been copied
            bad_length,    ///< the length is over the most. None of the message is kept, and no other comes
        };
        What what;
        std::size_t size;         ///< bytes of the piece that this took
        Bytes in_place;           ///< the message, without its length
        std::vector<Byte> whole;  ///< put_together: the same, and the cutter has it no longer

        [[nodiscard]] Bytes message() const noexcept {
            return what == What::put_together ? Bytes(whole) : in_place;
        }
    };
    /// Looks at the beginning of `piece`: what comes after all that was taken before. Of a piece that is not
    /// empty at least one byte is taken, but after bad_length none.
    [[nodiscard]] Cut next(Bytes piece);

  private:
    [[nodiscard]] Cut collect(Bytes piece);

    std::size_t most_;
    ByteArray<kMessageLengthSize> length_{};
    std::size_t length_came_ = 0;  // bytes of length_
    std::vector<Byte> partial_;    // of the message, without its length
};

}  // namespace curvegate::wire
