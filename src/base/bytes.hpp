#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace curvegate {

using Byte = std::uint8_t;
using Bytes = std::span<const Byte>;
using MutableBytes = std::span<Byte>;
template <std::size_t N>
using ByteArray = std::array<Byte, N>;
template <std::size_t N>
using FixedBytes = std::span<const Byte, N>;
template <std::size_t N>
using MutableFixedBytes = std::span<Byte, N>;

/// A fixed number of bytes with a meaning: regular, comparable, and not convertible to another meaning.
/// For public values only; secrets are crypto::Secret.
template <class Tag, std::size_t N>
struct Strong {
    static constexpr std::size_t kSize = N;
    ByteArray<N> bytes{};
    friend auto operator<=>(const Strong&, const Strong&) = default;
};

template <std::size_t N>
[[nodiscard]] inline ByteArray<N> to_array(FixedBytes<N> from) {
    ByteArray<N> out;
    std::ranges::copy(from, out.begin());
    return out;
}

[[nodiscard]] inline Bytes as_bytes(std::string_view text) {
    return {reinterpret_cast<const Byte*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view as_text(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Big-endian integers, as curve_tun and our own files and sockets write them.
template <class Int>
[[nodiscard]] constexpr Int load_be(FixedBytes<sizeof(Int)> from) noexcept {
    Int value = 0;
    for (const Byte byte : from) value = static_cast<Int>((value << 8) | byte);
    return value;
}
template <class Int>
constexpr void store_be(MutableFixedBytes<sizeof(Int)> to, Int value) noexcept {
    for (std::size_t i = sizeof(Int); i-- > 0; value = static_cast<Int>(value >> 8))
        to[i] = static_cast<Byte>(value & 0xff);
}
template <class Int>
[[nodiscard]] constexpr ByteArray<sizeof(Int)> to_be(Int value) noexcept {
    ByteArray<sizeof(Int)> out{};
    store_be<Int>(out, value);
    return out;
}

/// Little-endian integers, as CurveCP writes them.
template <class Int>
[[nodiscard]] constexpr Int load_le(FixedBytes<sizeof(Int)> from) noexcept {
    Int value = 0;
    for (std::size_t i = sizeof(Int); i-- > 0;) value = static_cast<Int>((value << 8) | from[i]);
    return value;
}
template <class Int>
constexpr void store_le(MutableFixedBytes<sizeof(Int)> to, Int value) noexcept {
    for (std::size_t i = 0; i < sizeof(Int); ++i, value = static_cast<Int>(value >> 8))
        to[i] = static_cast<Byte>(value & 0xff);
}
template <class Int>
[[nodiscard]] constexpr ByteArray<sizeof(Int)> to_le(Int value) noexcept {
    ByteArray<sizeof(Int)> out{};
    store_le<Int>(out, value);
    return out;
}

/// Reads fields of fixed size one after the other. The caller has checked that `bytes` holds them all:
/// a reader is made only after the exact length was compared.
class Reader {
  public:
    explicit Reader(Bytes bytes) noexcept : rest_(bytes) {}
    template <std::size_t N>
    [[nodiscard]] FixedBytes<N> take() noexcept {
        const auto field = rest_.first<N>();
        rest_ = rest_.subspan(N);
        return field;
    }
    template <class Int>
    [[nodiscard]] Int integer() noexcept {
        return load_be<Int>(take<sizeof(Int)>());
    }
    template <class Int>
    [[nodiscard]] Int integer_le() noexcept {
        return load_le<Int>(take<sizeof(Int)>());
    }
    [[nodiscard]] Bytes rest() const noexcept { return rest_; }

  private:
    Bytes rest_;
};

/// Writes fields one after the other into a buffer that the caller made large enough.
class Writer {
  public:
    explicit Writer(MutableBytes bytes) noexcept : rest_(bytes) {}
    Writer& put(Bytes field) noexcept {
        std::ranges::copy(field, rest_.begin());
        rest_ = rest_.subspan(field.size());
        return *this;
    }
    template <class Int>
    Writer& integer(Int value) noexcept {
        return put(to_be(value));
    }
    template <class Int>
    Writer& integer_le(Int value) noexcept {
        return put(to_le(value));
    }
    /// The next `N` bytes, for somebody else to fill.
    template <std::size_t N>
    [[nodiscard]] MutableFixedBytes<N> claim() noexcept {
        const auto field = rest_.first<N>();
        rest_ = rest_.subspan(N);
        return field;
    }
    [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); }

  private:
    MutableBytes rest_;
};

}  // namespace curvegate
