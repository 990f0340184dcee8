#pragma once

#include "base/bytes.hpp"
#include "crypto/secret.hpp"

#include <cstdlib>
#include <vector>

/// What all harnesses share. A harness gets the fuzzer's bytes, checks what must hold for any bytes, and
/// traps where it does not.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace curvegate::fuzz {

/// The input in a heap block of exactly its size, so that AddressSanitizer sees the first byte beyond.
[[nodiscard]] inline std::vector<Byte> copy_of(const std::uint8_t* data, std::size_t size) {
    static const bool ready = crypto::initialise().has_value();
    if (!ready) std::abort();
    return size == 0 ? std::vector<Byte>() : std::vector<Byte>(data, data + size);
}

inline void must(bool holds) {
    if (!holds) std::abort();
}

/// Input read as a change to one part of a valid session: which part, by how much longer or shorter, then
/// places and what to flip there. So the boxes inside boxes are reached, which random bytes never are.
class Mutation {
  public:
    explicit Mutation(Bytes input) : input_(input) {}

    /// Which of `parts` parts is changed.
    [[nodiscard]] unsigned part(unsigned parts) const { return input_.empty() ? 0 : input_[0] % parts; }
    /// Whether `to` no longer begins with what it was.
    [[nodiscard]] bool apply(std::vector<Byte>& to) const {
        const auto before = to;
        if (input_.size() > 1 && input_[1] >= 192)
            to.resize(to.size() - std::min<std::size_t>(to.size(), input_[1] - 191U));
        if (input_.size() > 1 && input_[1] >= 128 && input_[1] < 192) to.resize(to.size() + input_[1] - 127U);
        flip(to);
        return !std::ranges::equal(before, std::span(to).first(std::min(to.size(), before.size())));
    }
    /// The same without a change of length.
    template <std::size_t N>
    [[nodiscard]] bool apply(ByteArray<N>& to) const {
        const auto before = to;
        flip(to);
        return to != before;
    }

  private:
    void flip(MutableBytes to) const {
        for (std::size_t at = 2; at + 2 < input_.size() && !to.empty(); at += 3) {
            Byte& byte = to[load_be<std::uint16_t>(input_.subspan(at).first<2>()) % to.size()];
            byte = static_cast<Byte>(byte ^ input_[at + 2]);
        }
    }
    Bytes input_;
};

}  // namespace curvegate::fuzz
