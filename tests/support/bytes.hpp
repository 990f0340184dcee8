#pragma once

#include "base/bytes.hpp"
#include "base/random.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace curvegate::test {

using Buffer = std::vector<Byte>;

inline Buffer copy_of(Bytes bytes) {
    return {bytes.begin(), bytes.end()};
}

inline std::string hex(Bytes bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const Byte byte : bytes) {
        out += digits[byte >> 4];
        out += digits[byte & 15];
    }
    return out;
}

inline Buffer unhex(std::string_view text) {
    const auto value = [](char c) { return static_cast<Byte>(c <= '9' ? c - '0' : c - 'a' + 10); };
    Buffer out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<Byte>(value(text[i]) << 4 | value(text[i + 1])));
    return out;
}

template <std::size_t N>
ByteArray<N> unhex_array(std::string_view text) {
    ByteArray<N> out{};
    std::ranges::copy(unhex(text), out.begin());
    return out;
}

/// Bytes that differ from one place to the next and from one length to the next.
inline Buffer pattern(std::size_t size) {
    Buffer out(size);
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<Byte>((31 * i + size) % 251);
    return out;
}

/// For large contents: a failed comparison prints neither.
inline bool same(Bytes a, Bytes b) {
    return std::ranges::equal(a, b);
}

/// Calls `with` with every copy of `original` in which one bit differs.
template <class Fn>
void each_bit_flip(Bytes original, Fn&& with) {
    Buffer bytes = copy_of(original);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        bytes[bit / 8] = static_cast<Byte>(bytes[bit / 8] ^ (1U << bit % 8));
        with(bytes, bit);
        bytes[bit / 8] = static_cast<Byte>(bytes[bit / 8] ^ (1U << bit % 8));
    }
}

/// Random bytes that are the same for the same seed (splitmix64): good for tests only.
class SeededRandom final : public RandomSource {
  public:
    explicit SeededRandom(std::uint64_t seed) noexcept : state_(seed) {}

    void fill(MutableBytes out) override {
        for (Byte& byte : out) byte = static_cast<Byte>(next());
    }
    std::uint64_t next() noexcept {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }
    /// 0 to `below` - 1
    std::size_t below(std::size_t below) noexcept { return next() % below; }
    bool one_in(std::size_t chances) noexcept { return below(chances) == 0; }

  private:
    std::uint64_t state_;
};

}  // namespace curvegate::test
