#pragma once

#include "crypto/nonce.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace curvegate::session {

/// Which packet numbers have come (PROTOCOL 7.6; after RFC 6479): each is accepted once, in any order, unless
/// it is kSize or more behind the highest. Compared as unsigned 64-bit numbers, which do not wrap.
class ReceiveWindow {
  public:
    static constexpr std::uint64_t kSize = 8'192;

    [[nodiscard]] bool is_new(crypto::PacketNumber number) const noexcept {
        if (!highest_ || number.value > *highest_) return true;
        if (*highest_ - number.value >= kSize) return false;
        return (words_[word_of(number.value)] & bit_of(number.value)) == 0;
    }
    /// Is it higher than all that came?
    [[nodiscard]] bool is_newest(crypto::PacketNumber number) const noexcept {
        return !highest_ || number.value > *highest_;
    }
    /// `number` is new and its packet authentic.
    void mark(crypto::PacketNumber number) noexcept {
        if (is_newest(number)) {
            forget_up_to(number.value);
            highest_ = number.value;
        }
        words_[word_of(number.value)] |= bit_of(number.value);
    }
    /// 2^64-1 has come: there is nothing newer any more.
    [[nodiscard]] bool exhausted() const noexcept { return highest_ == ~std::uint64_t{0}; }

  private:
    // One word more than the window, so that the word of the highest number holds none that is kSize older.
    static constexpr std::size_t kWords = kSize / 64 + 1;
    [[nodiscard]] static std::size_t word_of(std::uint64_t number) noexcept {
        return static_cast<std::size_t>(number / 64 % kWords);
    }
    [[nodiscard]] static std::uint64_t bit_of(std::uint64_t number) noexcept {
        return std::uint64_t{1} << (number % 64);
    }
    /// Clears the words between the highest so far and `number`.
    void forget_up_to(std::uint64_t number) noexcept {
        if (!highest_) return;
        const std::uint64_t from = *highest_ / 64;
        const std::uint64_t steps = std::min<std::uint64_t>(number / 64 - from, kWords);
        for (std::uint64_t i = 1; i <= steps; ++i) words_[(from + i) % kWords] = 0;
    }

    std::array<std::uint64_t, kWords> words_{};
    std::optional<std::uint64_t> highest_;
};

}  // namespace curvegate::session
